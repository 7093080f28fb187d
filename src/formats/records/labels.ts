/** The label field of a node record: up to seven ids in 36 bits, or the place of more. Source: formats.md §4. */
import { FormatError } from '../formaterror.ts';
import type { PropertyValue } from './values.ts';

const DYNAMIC_BIT = 39n;
const COUNT_SHIFT = 36n;
const ID_BITS = 36;

/** Ids, or the first record of the store of labels that holds them. */
export type LabelField = { readonly labelIds: readonly number[] } | { readonly dynamicId: number };

export function parseLabelField(field: number): LabelField {
  const bits = BigInt(field);
  const low = BigInt.asUintN(ID_BITS, bits);
  if (((bits >> DYNAMIC_BIT) & 1n) === 1n) return { dynamicId: Number(low) };
  const count = Number(bits >> COUNT_SHIFT);
  const width = count === 0 ? 0 : Math.floor(ID_BITS / count);
  const labelIds: number[] = [];
  for (let index = 0; index < count; index++)
    labelIds.push(Number(BigInt.asUintN(width, low >> BigInt(index * width))));
  return { labelIds };
}

/** The value of a chain in the store of labels: the id of the node itself, then those of its labels. */
export function parseDynamicLabels(value: PropertyValue, nodeId: number): number[] {
  if (!Array.isArray(value)) throw new FormatError('the labels of a node are no array');
  const [owner, ...labels] = value.map(Number);
  if (owner !== nodeId) throw new FormatError(`the labels belong to node ${owner}`);
  if (labels.some((label) => !Number.isSafeInteger(label) || label < 0))
    throw new FormatError('a label has an id that no label can have');
  return labels;
}
