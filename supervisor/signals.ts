/**
 * What a signal means, as a pure decision. TERM and QUIT stop, INT stops within seconds, HUP reloads, USR1 reopens logs,
 * USR2 asks for an upgrade in place. The same stop signal again within a second is the same one (npm forwards a Ctrl-C that
 * the terminal has delivered already); any other second stop signal means now.
 */

export const SIGNALS = ['SIGTERM', 'SIGQUIT', 'SIGINT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const
export const STOP_SIGNALS = ['SIGTERM', 'SIGQUIT', 'SIGINT'] as const
export type HandledSignal = (typeof SIGNALS)[number]
export type SignalMeaning = 'stop' | 'interrupt' | 'force' | 'reload' | 'reopen-logs' | 'upgrade' | 'nothing'

const SAME_WITHIN_MS = 1_000

export class SignalPolicy {
  #stop: { signal: HandledSignal; atMs: number } | null = null

  meaning(signal: HandledSignal, nowMs: number): SignalMeaning {
    if (signal === 'SIGHUP') return this.#stop === null ? 'reload' : 'nothing'
    if (signal === 'SIGUSR1') return 'reopen-logs'
    if (signal === 'SIGUSR2') return this.#stop === null ? 'upgrade' : 'nothing'
    if (this.#stop === null) {
      this.#stop = { signal, atMs: nowMs }
      return signal === 'SIGINT' ? 'interrupt' : 'stop'
    }
    if (signal === this.#stop.signal && nowMs - this.#stop.atMs < SAME_WITHIN_MS) return 'nothing'
    return 'force'
  }
}
