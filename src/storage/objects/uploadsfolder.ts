/**
 * Objects that an upload is put together of, where a store has nothing better: in a folder below that of the store, so that
 * who may write there may write these as well, and under names that tell their upload and when that began. No list of
 * artifacts shows them.
 */
import { randomBytes } from 'node:crypto';
import type { UploadFacts } from './store.ts';

export const UPLOADS_FOLDER = '.graphkeep-uploads/';
const ID = /^gk([0-9a-f]{12})[0-9a-f]{12}$/;
const TIME_DIGITS = 12;
const UNIQUE_BYTES = 6;
const NUMBER_DIGITS = 6;

export function newUploadId(): string {
  const time = Date.now().toString(16).padStart(TIME_DIGITS, '0');
  return `gk${time}${randomBytes(UNIQUE_BYTES).toString('hex')}`;
}

/** Nothing when the id is not one of ours. */
export function startOfUpload(id: string): Date | undefined {
  const time = ID.exec(id)?.[1];
  return time === undefined ? undefined : new Date(Number.parseInt(time, 16));
}

/** All that lies below belongs to this upload. */
export function folderOfUpload(id: string): string {
  return `${UPLOADS_FOLDER}${id}/`;
}

/** Below the folder of the store. */
export function nameOfPiece(id: string, piece: string, key: string): string {
  return `${folderOfUpload(id)}${piece}/${key}`;
}

/** @param name below the folder of the store: `.graphkeep-uploads/<id>/<piece>/<key>` */
export function uploadOfPiece(name: string): UploadFacts | undefined {
  const [, id = '', , ...key] = name.split('/');
  const started = name.startsWith(UPLOADS_FOLDER) ? startOfUpload(id) : undefined;
  if (started === undefined || key.length === 0) return undefined;
  return { id, key: key.join('/'), started };
}

/** So that names are in the order of their numbers. */
export function digits(number: number): string {
  return String(number).padStart(NUMBER_DIGITS, '0');
}
