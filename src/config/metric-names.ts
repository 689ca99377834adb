/** Proxies whose names of metrics /metrics may have besides ours (supervisor/compat-names.ts). */
export const METRIC_NAMES = ['traefik', 'caddy', 'haproxy', 'nginx'] as const
export type MetricNames = (typeof METRIC_NAMES)[number]

export function isMetricNames(word: string): word is MetricNames { return (METRIC_NAMES as readonly string[]).includes(word) }
