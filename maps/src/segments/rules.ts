/** Rules as rows of a form, and as the filter language of the API; back again where a filter is made of such rows. Pure. */

export const FIELD_KINDS = ['number', 'choice', 'text', 'day', 'near', 'consent', 'segment'] as const;
export type FieldKind = (typeof FIELD_KINDS)[number];

export interface Option {
  readonly value: string;
  readonly name: string;
}

/** Something that a row can ask for. */
export interface Field {
  /** As in the filter language; `near` and `consent` are conditions of their own. */
  readonly name: string;
  readonly label: string;
  readonly group: string;
  readonly kind: FieldKind;
  readonly unit?: string;
  /** A number that can be asked of a time up to now. */
  readonly windowed?: boolean;
  readonly options?: readonly Option[];
}

export interface Row {
  readonly field: string;
  readonly op: string;
  readonly value: string;
  /** The upper end of `between`. */
  readonly upper: string;
  /** Days up to now; empty for all time. */
  readonly window: string;
}

export interface Draft {
  readonly name: string;
  readonly join: 'all' | 'any';
  readonly rows: readonly Row[];
  /** A filter that this form cannot show as rows: it is kept as it is. */
  readonly kept: object | null;
}

export const emptyRow = (field: string, kind: FieldKind, option = ''): Row => ({
  field,
  op: OPERATIONS[kind][0]?.value ?? '=',
  value: option,
  upper: '',
  window: '',
});

export const emptyDraft = (name: string): Draft => ({ name, join: 'all', rows: [], kept: null });

export const OPERATIONS: Readonly<Record<FieldKind, readonly Option[]>> = {
  number: [
    { value: '>=', name: 'at least' },
    { value: '<=', name: 'at most' },
    { value: 'between', name: 'from … to' },
  ],
  choice: [
    { value: '=', name: 'is' },
    { value: '!=', name: 'is not' },
  ],
  segment: [
    { value: '=', name: 'is' },
    { value: '!=', name: 'is not' },
  ],
  text: [
    { value: '=', name: 'is' },
    { value: '!=', name: 'is not' },
    { value: 'contains', name: 'contains' },
  ],
  day: [
    { value: '>=', name: 'on or after' },
    { value: '<', name: 'before' },
  ],
  near: [
    { value: 'within', name: 'within' },
    { value: 'beyond', name: 'farther than' },
  ],
  consent: [
    { value: 'given', name: 'given' },
    { value: 'missing', name: 'not given' },
  ],
};

const KM = 1000;
const MOST_M = 500_000;
const PLACE_KIND = 'near.';
const CONSENT = 'consent.';

/** What is wrong with a row; null where nothing is. */
export function faultOf(row: Row, field: Field | undefined): string | null {
  if (!field) return 'Choose what is asked for.';
  if (field.kind === 'consent') return null;
  if (row.value.trim() === '') {
    return field.kind === 'choice' || field.kind === 'segment' ? 'Choose a value.' : 'Fill in a value.';
  }
  if (field.kind === 'number' || field.kind === 'near') {
    const number = Number(row.value);
    if (!Number.isFinite(number)) return 'A number is needed.';
    if (field.kind === 'near' && (number <= 0 || number * KM > MOST_M))
      return 'A distance from 0.1 to 500 km is needed.';
    if (row.op === 'between') {
      const upper = Number(row.upper);
      if (row.upper.trim() === '' || !Number.isFinite(upper)) return 'The upper end is needed too.';
      if (upper < number) return 'The upper end is below the lower one.';
    }
  }
  return null;
}

/** The condition of a row without fault. */
export function conditionOf(row: Row, { kind }: Pick<Field, 'kind'>): object {
  if (kind === 'near') {
    const near = {
      near: { place_kind: row.field.slice(PLACE_KIND.length), radius_m: Math.round(Number(row.value) * KM) },
    };
    return row.op === 'beyond' ? { not: near } : near;
  }
  if (kind === 'consent') {
    const consent = { consent: { purpose: 'marketing', channel: row.field.slice(CONSENT.length) } };
    return row.op === 'missing' ? { not: consent } : consent;
  }
  const value =
    kind === 'number'
      ? row.op === 'between'
        ? [Number(row.value), Number(row.upper)]
        : Number(row.value)
      : row.value.trim();
  const made = { field: row.field, op: row.op, value };
  return row.window === '' ? made : { ...made, window_days: Number(row.window) };
}

/** The filter of a draft; null while a row has a fault or there is none. */
export function filterOf(draft: Draft, fields: ReadonlyMap<string, Field>): object | null {
  if (draft.kept) return draft.kept;
  const parts: object[] = [];
  for (const row of draft.rows) {
    const field = fields.get(row.field);
    if (!field || faultOf(row, field) !== null) return null;
    parts.push(conditionOf(row, field));
  }
  if (parts.length === 0) return null;
  return parts.length === 1 && parts[0] ? parts[0] : { [draft.join]: parts };
}

type Json = Readonly<Record<string, unknown>>;
const isObject = (value: unknown): value is Json =>
  value !== null && typeof value === 'object' && !Array.isArray(value);

function rowOf(condition: unknown, fields: ReadonlyMap<string, Field>): Row | null {
  if (!isObject(condition)) return null;
  const inner = isObject(condition.not) ? condition.not : condition;
  const negated = inner !== condition;
  const blank = { upper: '', window: '' };
  if (isObject(inner.near) && typeof inner.near.place_kind === 'string' && typeof inner.near.radius_m === 'number') {
    const field = PLACE_KIND + inner.near.place_kind;
    const made = { ...blank, field, op: negated ? 'beyond' : 'within', value: String(inner.near.radius_m / KM) };
    return fields.has(field) ? made : null;
  }
  if (isObject(inner.consent) && inner.consent.purpose === 'marketing') {
    const field = CONSENT + String(inner.consent.channel);
    return fields.has(field) ? { ...blank, field, op: negated ? 'missing' : 'given', value: '' } : null;
  }
  if (negated || typeof condition.field !== 'string') return null;
  const field = fields.get(condition.field);
  const op = typeof condition.op === 'string' ? condition.op : '=';
  if (!field || !OPERATIONS[field.kind].some(({ value }) => value === op)) return null;
  const window = condition.window_days === undefined ? '' : String(condition.window_days);
  if (op === 'between') {
    if (!Array.isArray(condition.value)) return null;
    const [low, high] = condition.value as unknown[];
    return { field: condition.field, op, value: String(low), upper: String(high), window };
  }
  const { value } = condition;
  if (typeof value !== 'string' && typeof value !== 'number') return null;
  return { field: condition.field, op, value: String(value), upper: '', window };
}

/** The draft of a stored rule; one that is not made of rows is kept as it is. */
export function draftOf(name: string, filter: unknown, fields: ReadonlyMap<string, Field>): Draft {
  const whole = isObject(filter) ? filter : {};
  const join = Array.isArray(whole.any) ? 'any' : 'all';
  const list = Array.isArray(whole[join]) && Object.keys(whole).length === 1 ? (whole[join] as unknown[]) : [whole];
  const rows = list.map((condition) => rowOf(condition, fields));
  const draft: Draft = { name, join, rows: rows.filter((row) => row !== null), kept: null };
  const same = rows.every((row) => row !== null) && rows.length > 0;
  return same ? draft : { ...draft, rows: [], kept: whole };
}

/** The parameters of the method of rules. */
export function rulesParameter(
  drafts: readonly Draft[],
  fields: ReadonlyMap<string, Field>,
): { rules: { name: string; filter: object | null }[] } {
  return { rules: drafts.map((draft) => ({ name: draft.name.trim(), filter: filterOf(draft, fields) })) };
}
