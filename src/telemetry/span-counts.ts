/** What became of the spans of this process. A file of its own, so that whoever shows it loads nothing of OpenTelemetry. */

export const spanCounts = {
  /** Spans that were made and did not get through: the queue was full, or the collector did not take them. Nothing sets it back. */
  dropped: 0,
}
