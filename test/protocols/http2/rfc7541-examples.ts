/** Appendix C of RFC 7541: header blocks that follow one another, with the fields and the table behind each. */

export type Fields = readonly (readonly [name: string, value: string])[]

export interface Example {
  readonly block: string
  readonly fields: Fields
  /** The dynamic table, newest first. */
  readonly table: Fields
  readonly size: number
}

export interface ExampleSeries {
  readonly name: string
  readonly tableBytes: number
  readonly huffman: boolean
  readonly examples: readonly Example[]
}

const DATE_21 = 'Mon, 21 Oct 2013 20:13:21 GMT', DATE_22 = 'Mon, 21 Oct 2013 20:13:22 GMT'
const COOKIE = 'foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1'

const FIRST: Fields = [[':method', 'GET'], [':scheme', 'http'], [':path', '/'], [':authority', 'www.example.com']]
const REQUESTS = [
  { fields: FIRST, table: FIRST.slice(3), size: 57 },
  { fields: [...FIRST, ['cache-control', 'no-cache']] as Fields, table: [['cache-control', 'no-cache'], FIRST[3]!] as Fields, size: 110 },
  {
    fields: [[':method', 'GET'], [':scheme', 'https'], [':path', '/index.html'], FIRST[3]!, ['custom-key', 'custom-value']] as Fields,
    table: [['custom-key', 'custom-value'], ['cache-control', 'no-cache'], FIRST[3]!] as Fields,
    size: 164,
  },
]

const ANSWER: Fields = [[':status', '302'], ['cache-control', 'private'], ['date', DATE_21], ['location', 'https://www.example.com']]
const ANSWERS = [
  { fields: ANSWER, table: ANSWER.toReversed(), size: 222 },
  {
    fields: [[':status', '307'], ...ANSWER.slice(1)] as Fields,
    table: [[':status', '307'], ANSWER[3]!, ANSWER[2]!, ANSWER[1]!] as Fields,
    size: 222,
  },
  {
    fields: [
      [':status', '200'], ANSWER[1]!, ['date', DATE_22], ANSWER[3]!, ['content-encoding', 'gzip'], ['set-cookie', COOKIE],
    ] as Fields,
    table: [['set-cookie', COOKIE], ['content-encoding', 'gzip'], ['date', DATE_22]] as Fields,
    size: 215,
  },
]

function series(
  name: string, tableBytes: number, huffman: boolean, blocks: readonly string[], rest: readonly Omit<Example, 'block'>[],
): ExampleSeries {
  return { name, tableBytes, huffman, examples: rest.map((example, at) => ({ ...example, block: blocks[at]!.replaceAll(/\s/g, '') })) }
}

export const SERIES: readonly ExampleSeries[] = [
  series('C.3', 4096, false, [
    '8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d',
    '8286 84be 5808 6e6f 2d63 6163 6865',
    '8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65',
  ], REQUESTS),
  series('C.4', 4096, true, [
    '8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff',
    '8286 84be 5886 a8eb 1064 9cbf',
    '8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf',
  ], REQUESTS),
  series('C.5', 256, false, [
    `4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768
     7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d`,
    '4803 3330 37c1 c0bf',
    `88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d 4153
     444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31`,
  ], ANSWERS),
  series('C.6', 256, true, [
    `4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8
     e9ae 82ae 43d3`,
    '4883 640e ffc1 c0bf',
    `88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b
     3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07`,
  ], ANSWERS),
]
