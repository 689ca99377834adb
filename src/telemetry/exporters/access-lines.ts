/** What makes the lines of an access log: chosen once, by the name of a form or by a template. */
import { parseTemplate, type AccessFormatName } from '../../config/access-format.ts'
import { JsonLines, type AccessRecord } from './access-line.ts'
import { COMBINED, COMMON, TemplateLines } from './access-template.ts'
import { TextLines } from './access-text.ts'
import type { LogSink } from './log-sink.ts'
import type { QuerySecrets } from './query-secrets.ts'

export interface AccessLines {
  /** @returns the line of a record, with its line break: printable ASCII and tabs, at most `maxLength` characters */
  compose(record: AccessRecord, maxLength: number): string
  /** Hands the same to a sink, as long as that takes it in one piece. @returns false when it was dropped */
  writeTo(sink: LogSink, record: AccessRecord): boolean
}

/** @param colours where a form has them. @throws TypeError for a format that is none; its option is checked before */
export function accessLines(format: string, secrets: QuerySecrets, colours: boolean): AccessLines {
  switch (format as AccessFormatName) {
    case 'json': return new JsonLines(secrets)
    case 'text': return new TextLines(secrets, colours)
    case 'common': return new TemplateLines(COMMON, secrets)
    case 'combined': return new TemplateLines(COMBINED, secrets)
    default: {
      const parts = parseTemplate(format)
      if (typeof parts === 'string') throw new TypeError(`${JSON.stringify(format)} is no template; use ${parts}`)
      return new TemplateLines(parts, secrets)
    }
  }
}
