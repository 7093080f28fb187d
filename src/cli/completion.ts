/**
 * `completion bash|zsh|fish`: scripts written from the command tree itself, so that they cannot fall behind it.
 * Options that are only there to be refused are hidden in the tree and not offered.
 */
import { Argument, type Command, type Option } from 'commander';
import type { CliContext } from './context.ts';

export type Shell = 'bash' | 'zsh' | 'fish';
const SHELLS: readonly Shell[] = ['bash', 'zsh', 'fish'];

const EXAMPLES = `
Examples:
  $ source <(graphkeep completion bash)
  $ graphkeep completion zsh > "\${fpath[1]}/_graphkeep"
  $ graphkeep completion fish > ~/.config/fish/completions/graphkeep.fish
`;

export function addCompletion(program: Command, context: CliContext): void {
  program
    .command('completion')
    .summary('Print a completion script for a shell')
    .description('Prints the script that completes commands, options and their values in a shell.')
    .addArgument(new Argument('<shell>', 'shell').choices(SHELLS))
    .addHelpText('after', EXAMPLES)
    .action((shell: Shell) => {
      context.stdout.write(completionScript(program, shell));
    });
}

interface CommandNode {
  /** `database backup`; empty for the program itself. */
  readonly words: string;
  readonly description: string;
  readonly children: readonly { name: string; description: string }[];
  readonly options: readonly OptionNode[];
  /** Values that the first argument can have. */
  readonly argumentValues: readonly string[];
}

interface OptionNode {
  readonly name: string;
  readonly description: string;
  readonly takesValue: boolean;
  readonly valueOptional: boolean;
  readonly values: readonly string[];
}

export function completionScript(program: Command, shell: Shell): string {
  const nodes = collectNodes(program, '');
  const scripts: Record<Shell, (nodes: readonly CommandNode[]) => string> = {
    bash: bashScript,
    zsh: zshScript,
    fish: fishScript,
  };
  return scripts[shell](nodes);
}

function collectNodes(command: Command, words: string): CommandNode[] {
  const help = command.createHelp();
  const children = help.visibleCommands(command).filter((child) => child.name() !== 'help');
  const node: CommandNode = {
    words,
    description: command.summary() || command.description(),
    children: children.map((child) => ({
      name: child.name(),
      description: child.summary() || child.description(),
    })),
    options: help.visibleOptions(command).flatMap(optionNode),
    argumentValues: command.registeredArguments[0]?.argChoices ?? [],
  };
  const deeper = children.flatMap((child) => collectNodes(child, `${words} ${child.name()}`.trim()));
  return [node, ...deeper];
}

function optionNode(option: Option): OptionNode[] {
  if (option.long === undefined || option.long === null) return [];
  return [
    {
      name: option.long,
      description: option.description,
      takesValue: option.required || option.optional,
      valueOptional: option.optional,
      values: option.argChoices ?? [],
    },
  ];
}

function bashScript(nodes: readonly CommandNode[]): string {
  const paths = nodes.filter((node) => node.words !== '').map((node) => `'${node.words}'`);
  const cases = nodes.map((node) => {
    const words = [...node.children.map((child) => child.name), ...node.argumentValues];
    const options = node.options.map((option) =>
      option.takesValue && !option.valueOptional ? `${option.name}=` : option.name,
    );
    return `    '${node.words}') words='${words.join(' ')}'; options='${options.join(' ')}' ;;`;
  });
  const values = nodes.flatMap((node) =>
    node.options
      .filter((option) => option.values.length > 0)
      .map((option) => `    '${node.words} ${option.name}') words='${option.values.join(' ')}' ;;`),
  );
  return `# graphkeep completion for bash
_graphkeep() {
  local current=\${COMP_WORDS[COMP_CWORD]} option='' command='' words='' options='' index word
  COMPREPLY=()
  for ((index = 1; index < COMP_CWORD; index++)); do
    word="\${command:+$command }\${COMP_WORDS[index]}"
    case "$word" in
      ${paths.join(' | ')}) command=$word ;;
    esac
  done
  # bash splits --option=value into three words.
  if [[ $current == = ]]; then
    option=\${COMP_WORDS[COMP_CWORD - 1]} current=''
  elif [[ \${COMP_WORDS[COMP_CWORD - 1]} == = ]]; then
    option=\${COMP_WORDS[COMP_CWORD - 2]}
  elif [[ \${COMP_WORDS[COMP_CWORD - 1]} == --* && $current != -* ]]; then
    option=\${COMP_WORDS[COMP_CWORD - 1]}
  fi
  case "$command \${option:-none}" in
${values.join('\n')}
  esac
  if [[ -n $words ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    return
  fi
  [[ -n $option ]] && return
  case "$command" in
${cases.join('\n')}
  esac
  [[ $current == -* ]] && words=$options
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  [[ \${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
  return 0
}
complete -o default -F _graphkeep graphkeep
`;
}

function zshScript(nodes: readonly CommandNode[]): string {
  const cases = nodes
    .filter((node) => node.words !== '')
    .map((node) => {
      const options = node.options.map((option) => `        ${zshOption(option)} \\`);
      return `    '${node.words}')\n      _arguments -s \\\n${options.join('\n')}\n        ${zshRest(node)} ;;`;
    });
  const paths = nodes.filter((node) => node.words !== '').map((node) => `'${node.words}'`);
  const root = nodes[0];
  return `#compdef graphkeep
# graphkeep completion for zsh
_graphkeep() {
  local command='' word candidate
  integer index depth=0
  for ((index = 2; index < CURRENT; index++)); do
    candidate="\${command:+$command }\${words[index]}"
    case "$candidate" in
      ${paths.join('|')}) command=$candidate; depth=$((index - 1)) ;;
    esac
  done
  # What _arguments sees begins at the last word of the command.
  ((depth > 0)) && { words=("\${(@)words[depth + 1,-1]}"); ((CURRENT -= depth)); }
  case "$command" in
${cases.join('\n')}
    *) _values 'command' ${(root?.children ?? []).map((child) => zshQuote(`${child.name}[${zshText(child.description)}]`)).join(' ')} ;;
  esac
}
compdef _graphkeep graphkeep
`;
}

function zshOption(option: OptionNode): string {
  const description = `[${zshText(option.description)}]`;
  if (!option.takesValue) return zshQuote(option.name + description);
  const action = option.values.length > 0 ? `(${option.values.join(' ')})` : '_files';
  // `=-` asks for the value in the same word, which is the form that an optional value needs.
  return option.valueOptional
    ? zshQuote(`${option.name}=-${description}::value:${action}`)
    : zshQuote(`${option.name}=${description}:value:${action}`);
}

function zshRest(node: CommandNode): string {
  if (node.children.length > 0)
    return zshQuote(`1:command:(${node.children.map((child) => child.name).join(' ')})`);
  if (node.argumentValues.length > 0) return zshQuote(`1:value:(${node.argumentValues.join(' ')})`);
  return zshQuote('*:argument:_files');
}

function zshText(text: string): string {
  return text.replaceAll(/[[\]:\\]/g, ' ');
}

function zshQuote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function fishScript(nodes: readonly CommandNode[]): string {
  const lines = ['# graphkeep completion for fish', 'complete -c graphkeep -f'];
  for (const node of nodes) {
    const condition = fishCondition(node);
    for (const child of node.children) {
      lines.push(`complete -c graphkeep ${condition} -a ${child.name} -d ${fishQuote(child.description)}`);
    }
    for (const value of node.argumentValues) lines.push(`complete -c graphkeep ${condition} -a ${value}`);
    for (const option of node.options) lines.push(fishOption(option, condition));
  }
  return `${lines.join('\n')}\n`;
}

/** In a group, sub-commands are offered only as long as none of them is there. */
function fishCondition(node: CommandNode): string {
  const seen = node.words
    .split(' ')
    .filter((word) => word !== '')
    .map((word) => `__fish_seen_subcommand_from ${word}`);
  const children = node.children.map((child) => child.name).join(' ');
  if (children !== '') seen.push(`not __fish_seen_subcommand_from ${children}`);
  return `-n '${seen.join('; and ')}'`;
}

function fishOption(option: OptionNode, condition: string): string {
  const name = option.name.replace(/^--/, '');
  const value =
    option.values.length > 0 ? ` -x -a '${option.values.join(' ')}'` : option.takesValue ? ' -r -F' : '';
  return `complete -c graphkeep ${condition} -l ${name} -d ${fishQuote(option.description)}${value}`;
}

function fishQuote(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
