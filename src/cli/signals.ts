/**
 * Ctrl-C and its relatives → an abort signal that operations obey: they clean up and end by themselves. It decides no
 * outcome; the caller turns an interrupted run into the exit status that shells expect, 128 plus the signal number.
 * A second signal ends the process at once, for the case that the clean-up itself hangs (a dead network mount).
 */

/** Exit statuses by signal: 128 + its number. */
const SIGNAL_EXIT_STATUS = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;

type WatchedSignal = keyof typeof SIGNAL_EXIT_STATUS;
const WATCHED_SIGNALS: readonly WatchedSignal[] = ['SIGHUP', 'SIGINT', 'SIGTERM'];

export interface SignalWatch {
  readonly signal: AbortSignal;
  /** The exit status that belongs to the signal that came; undefined when none did. */
  exitStatus(): number | undefined;
  stop(): void;
}

export interface SignalSource {
  on(name: WatchedSignal, listener: (name: WatchedSignal) => void): unknown;
  off(name: WatchedSignal, listener: (name: WatchedSignal) => void): unknown;
  exit(status: number): void;
}

/** @param onHangUp what SIGHUP means to a server: to read its files anew; to all others it is an end */
export function watchSignals(source: SignalSource, onHangUp?: () => void): SignalWatch {
  const controller = new AbortController();
  let received: WatchedSignal | undefined;
  const listener = (name: WatchedSignal): void => {
    if (name === 'SIGHUP' && onHangUp !== undefined) {
      onHangUp();
      return;
    }
    if (received !== undefined) {
      source.exit(SIGNAL_EXIT_STATUS[name]);
      return;
    }
    received = name;
    controller.abort();
  };
  for (const name of WATCHED_SIGNALS) source.on(name, listener);
  return {
    signal: controller.signal,
    exitStatus: () => (received === undefined ? undefined : SIGNAL_EXIT_STATUS[received]),
    stop() {
      for (const name of WATCHED_SIGNALS) source.off(name, listener);
    },
  };
}
