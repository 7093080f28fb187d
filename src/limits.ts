/**
 * Every bound in one place: buffers, queues, retries, and lengths that are read from a file.
 * A length from disk is compared with its bound before anything is allocated.
 */

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;
