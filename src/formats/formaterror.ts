/**
 * Thrown by the parsers of this folder: the bytes are not what the format says.
 * It knows no file and no user; the caller turns it into a GraphkeepError that names both.
 */
export class FormatError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'FormatError';
  }
}
