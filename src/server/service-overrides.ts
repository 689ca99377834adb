/**
 * What the configuration of this process says of its services; it counts over what their code says. Whoever wires the
 * process together sets it before the application starts; a library user who does nothing overrides nothing.
 */
import type { WorkerSettings } from '../config/worker-settings.ts'

export const serviceOverrides: { settings: Pick<WorkerSettings, 'limits' | 'listeners'> } = { settings: { limits: {}, listeners: {} } }
