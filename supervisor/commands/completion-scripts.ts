/**
 * Scripts that let a shell complete `cirque ...`: commands, options, words to choose from, files, folders, and ids of the
 * workers that run, for which the script asks `cirque workers ls`. Pure; what can be completed is in completed-commands.ts.
 */
import type { CompletedCommand, CompletedOption, Offer } from './completed-commands.ts'

export const SHELLS = ['bash', 'zsh', 'fish'] as const
export type Shell = (typeof SHELLS)[number]

const SCRIPTS: Readonly<Record<Shell, (commands: readonly CompletedCommand[]) => string>> = { bash, zsh, fish }

/** @param commands the program first */
export function completionScript(shell: Shell, commands: readonly CompletedCommand[]): string { return SCRIPTS[shell](commands) }

// bash, from 3.2 on, which macOS has.

function bash(commands: readonly CompletedCommand[]): string {
  const places = commands.filter(({ words }) => words.length > 0).map(({ words }) => quoted(spaced(words)))
  const offered = commands.map(({ words, below, arguments: [first], options }) => {
    const offer = below.length > 0 ? below : first?.offer ?? 'nothing'
    const [value, choices] = typeof offer === 'string' ? [offer, ''] : ['words', offer.join(' ')]
    const flags = options.flatMap(option => option.flags).join(' ')
    return `    ${quoted(spaced(words))}) options=${quoted(flags)} value=${value} choices=${quoted(choices)} ;;`
  })
  const values = commands.flatMap(({ words, options }) => options.flatMap(({ flags, value }) => {
    if (value === null || value.optional) return []
    const [kind, choices] = typeof value.offer === 'string' ? [value.offer, ''] : ['words', value.offer.join(' ')]
    const typed = flags.map(flag => quoted(`${spaced(words)} ${flag}`)).join('|')
    return [`    ${typed}) value=${kind} choices=${quoted(choices)} options='' ;;`]
  }))
  return `# Completion of cirque for bash: source <(cirque completions bash)
_cirque() {
  local cirque=\${COMP_WORDS[0]} current=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD - 1]}
  local command='' passed='' options='' value='' choices='' word
  # bash takes the = of --option=value for a word of its own.
  if [[ $current == '=' ]]; then current=''
  elif [[ $before == '=' ]]; then before=\${COMP_WORDS[COMP_CWORD - 2]}
  fi
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD - 1}"; do
    if [[ $word == '--' ]]; then passed=yes; break; fi
    case "$command $word" in
      ${places.join('|')}) command="$command $word" ;;
    esac
  done
  case "$command" in
${offered.join('\n')}
  esac
  case "$command $before" in
${values.join('\n')}
  esac
  # What stands behind -- is the application's.
  if [[ -n $passed ]]; then value=file
  elif [[ $current == -* ]]; then value=words choices=$options
  fi
  local -a generate=()
  case $value in
    folder) generate=(-d) ;;
    file) generate=(-f) ;;
    worker) generate=(-W "$("$cirque" workers ls --quiet 2>/dev/null)") ;;
    words) generate=(-W "$choices") ;;
    *) COMPREPLY=(); return ;;
  esac
  case $value in folder|file) compopt -o filenames 2>/dev/null ;; esac
  COMPREPLY=()
  while IFS='' read -r word; do COMPREPLY+=("$word"); done < <(compgen "\${generate[@]}" -- "$current")
}
complete -F _cirque cirque
`
}

/** With a blank before each: `' workers ls'`. */
function spaced(words: readonly string[]): string { return words.map(word => ` ${word}`).join('') }

// zsh.

function zsh(commands: readonly CompletedCommand[]): string {
  const functions = commands.map(command => {
    const { words, options, arguments: taken, below } = command
    const specs = options.map(zshOption)
    if (below.length === 0) {
      const values = taken.map(({ name, variadic, offer }, index) => {
        return quoted(`${variadic ? '*' : index + 1}:${name}:${zshOffer(offer)}`)
      })
      return `${zshName(words)}() {\n  _arguments ${[...specs, ...values].join(' \\\n    ')}\n}`
    }
    const named = below.map(word => {
      const { description } = commands.find(other => spaced(other.words) === spaced([...words, word]))!
      return `        ${quoted(`${word}:${description}`)}`
    })
    return `${zshName(words)}() {
  local state line
  _arguments -C ${[...specs, "'1: :->command'", "'*:: :->rest'"].join(' \\\n    ')}
  case $state in
    command)
      local -a commands=(
${named.join('\n')}
      )
      _describe -t commands command commands ;;
    rest)
      case $line[1] in
${below.map(word => `        ${word}) ${zshName([...words, word])} ;;`).join('\n')}
      esac ;;
  esac
}`
  })
  return `#compdef cirque
# Completion of cirque for zsh: source <(cirque completions zsh), or save it as _cirque in a folder of $fpath.
_cirque() {
  local cirque=$words[1]
  _cirque_commands
}
_cirque_worker() {
  local -a ids=(\${(f)"$($cirque workers ls --quiet 2>/dev/null)"})
  compadd -a ids
}
${functions.join('\n')}
if [ "$funcstack[1]" = _cirque ]; then _cirque "$@"; else compdef _cirque cirque; fi
`
}

function zshName(words: readonly string[]): string { return ['_cirque_commands', ...words].join('_') }

function zshOption({ flags, description, value }: CompletedOption): string {
  const text = `[${description.replaceAll(/[[\]\\:]/g, found => `\\${found}`)}]`
  const argument = value === null ? '' : `${value.optional ? '::' : ':'}${value.name}:${zshOffer(value.offer)}`
  const [only, ...others] = flags
  const sign = value === null ? '' : value.optional ? '=-' : '='
  if (others.length === 0) return quoted(`${only}${sign}${text}${argument}`)
  const alike = flags.map(flag => flag.startsWith('--') ? `${flag}${sign}` : flag)
  return `${quoted(`(${flags.join(' ')})`)}{${alike.join(',')}}${quoted(`${text}${argument}`)}`
}

function zshOffer(offer: Offer): string {
  switch (offer) {
    case 'folder': return '_files -/'
    case 'file': return '_files'
    case 'worker': return '_cirque_worker'
    case 'nothing': return ' '
    default: return `(${offer.join(' ')})`
  }
}

// fish.

function fish(commands: readonly CompletedCommand[]): string {
  const places = commands.filter(({ words }) => words.length > 0).map(({ words }) => quoted(spaced(words)))
  const lines = commands.flatMap(({ words, options, arguments: [first], below }) => {
    const here = `complete -c cirque -n ${quoted(['__cirque_at', ...words].join(' '))}`
    const named = below.map(word => {
      const { description } = commands.find(other => spaced(other.words) === spaced([...words, word]))!
      return `${here} -a ${word} -d ${quoted(description)}`
    })
    const values = first === undefined ? [] : [`${here}${fishOffer(first.offer)}`].filter(line => line !== here)
    return [...named, ...values, ...options.map(option => `${here}${fishOption(option)}`)]
  })
  return `# Completion of cirque for fish: cirque completions fish | source
function __cirque_at
    set -l at ''
    for word in (commandline -opc)[2..-1]
        switch "$at $word"
            case ${places.join(' ')}
                set at "$at $word"
        end
    end
    set -l here (string join ' ' -- '' $argv)
    test "$at" = "$here"
end
complete -c cirque -f
${lines.join('\n')}
`
}

function fishOption({ flags, description, value }: CompletedOption): string {
  const names = flags.map(flag => flag.startsWith('--') ? ` -l ${flag.slice(2)}` : ` -s ${flag.slice(1)}`).join('')
  const taken = value === null || value.optional ? '' : ` -x${fishOffer(value.offer)}`
  return `${names}${taken} -d ${quoted(description)}`
}

function fishOffer(offer: Offer): string {
  switch (offer) {
    case 'folder': return ` -a ${quoted('(__fish_complete_directories)')}`
    case 'file': return ` -a ${quoted('(__fish_complete_path)')}`
    case 'worker': return ` -a ${quoted('(cirque workers ls --quiet 2>/dev/null)')}`
    case 'nothing': return ''
    default: return ` -a ${quoted(offer.join(' '))}`
  }
}

/** Means itself in all three shells. */
function quoted(text: string): string { return `'${text.replaceAll("'", "'\\''")}'` }
