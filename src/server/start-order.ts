/**
 * The order in which services start: everything a service depends on comes before it, otherwise as they were added.
 * A missing or circular dependency is refused with the names involved.
 */

export interface OrderedService {
  readonly name: string
  readonly dependsOn: readonly string[]
}

export function startOrder<S extends OrderedService>(services: readonly S[]): S[] {
  const byName = new Map(services.map(service => [service.name, service]))
  const ordered: S[] = []
  const done = new Set<string>()
  const path: string[] = []

  function visit(service: S): void {
    if (done.has(service.name)) return
    const loop = path.indexOf(service.name)
    if (loop !== -1) {
      const circle = [...path.slice(loop), service.name].join(' -> ')
      throw new Error(`services depend on each other in a circle: ${circle}; remove one of these dependencies`)
    }
    path.push(service.name)
    for (const name of service.dependsOn) {
      const dependency = byName.get(name)
      if (dependency === undefined) throw new Error(`service '${service.name}' depends on '${name}', which was not added to this server`)
      visit(dependency)
    }
    path.pop()
    done.add(service.name)
    ordered.push(service)
  }

  for (const service of services) visit(service)
  return ordered
}
