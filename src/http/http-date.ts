/**
 * A date as a client's field carries it (RFC 9110 5.6.7). All three forms are read, and nothing else: Date.parse() takes `foo 1` for one,
 * and reads the oldest form, which names no zone, as local time.
 */
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']

/** Sun, 06 Nov 1994 08:49:37 GMT; Sunday, 06-Nov-94 08:49:37 GMT; Sun Nov  6 08:49:37 1994. */
const FORMS = [
  /^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (?<day>\d\d) (?<month>[A-Z][a-z]{2}) (?<year>\d{4}) (?<time>\d\d:\d\d:\d\d) GMT$/,
  /^(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?<day>\d\d)-(?<month>[A-Z][a-z]{2})-(?<year>\d\d) (?<time>\d\d:\d\d:\d\d) GMT$/,
  /^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (?<month>[A-Z][a-z]{2}) (?<day>[ \d]\d) (?<time>\d\d:\d\d:\d\d) (?<year>\d{4})$/,
]

/**
 * In ms since 1970; NaN when `text` is no date.
 * @param nowMs a year of two digits is in this century, or in the one before when it would be more than 50 years away
 */
export function parseHttpDate(text: string, nowMs: number): number {
  for (const form of FORMS) {
    const parts = form.exec(text)?.groups
    if (parts === undefined) continue
    const { day = '', month = '', year = '', time = '' } = parts
    const [hour = 0, minute = 0, second = 0] = time.split(':').map(Number)
    const fullYear = year.length === 2 ? withCentury(Number(year), new Date(nowMs).getUTCFullYear()) : Number(year)
    const monthIndex = MONTHS.indexOf(month), midnight = new Date(0)
    // Date.UTC() takes the years 0 to 99 for others.
    midnight.setUTCFullYear(fullYear, monthIndex, Number(day))
    // The 31st of April would be a day of May. A leap second is that of the next minute.
    const isDay = monthIndex !== -1 && midnight.getUTCMonth() === monthIndex && midnight.getUTCDate() === Number(day)
    return isDay && hour < 24 && minute < 60 && second <= 60 ? midnight.getTime() + ((hour * 60 + minute) * 60 + second) * 1000 : NaN
  }
  return NaN
}

function withCentury(year: number, now: number): number {
  const full = now - now % 100 + year
  return full > now + 50 ? full - 100 : full
}
