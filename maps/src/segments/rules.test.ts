import { describe, expect, it } from 'vitest';
import {
  conditionOf,
  type Draft,
  draftOf,
  emptyDraft,
  emptyRow,
  type Field,
  faultOf,
  filterOf,
  type Row,
  rulesParameter,
} from './rules';

const FIELDS: ReadonlyMap<string, Field> = new Map(
  (
    [
      { name: 'sales.amount', label: 'Bought', group: 'Sales', kind: 'number', windowed: true },
      { name: 'sales.last_at', label: 'Last order', group: 'Sales', kind: 'day' },
      { name: 'near.own', label: 'Distance', group: 'Place', kind: 'near', unit: 'km' },
      { name: 'consent.email', label: 'Consent', group: 'Consent', kind: 'consent' },
      { name: 'stage', label: 'Stage', group: 'Customer', kind: 'choice', options: [{ value: 'lead', name: 'Lead' }] },
      { name: 'segments.rfm', label: 'RFM', group: 'Segments', kind: 'segment', options: [] },
      { name: 'city', label: 'Town', group: 'Place', kind: 'text' },
    ] satisfies Field[]
  ).map((field) => [field.name, field]),
);

const row = (field: string, op: string, value: string, more: Partial<Row> = {}): Row => ({
  field,
  op,
  value,
  upper: '',
  window: '',
  ...more,
});
const ROWS: readonly (readonly [Row, object])[] = [
  [
    row('sales.amount', '>=', '500', { window: '365' }),
    { field: 'sales.amount', op: '>=', value: 500, window_days: 365 },
  ],
  [row('sales.amount', 'between', '5', { upper: '7.5' }), { field: 'sales.amount', op: 'between', value: [5, 7.5] }],
  [row('sales.last_at', '<', '2026-01-31'), { field: 'sales.last_at', op: '<', value: '2026-01-31' }],
  [row('near.own', 'within', '2.1'), { near: { place_kind: 'own', radius_m: 2100 } }],
  [row('near.own', 'beyond', '40'), { not: { near: { place_kind: 'own', radius_m: 40_000 } } }],
  [row('consent.email', 'given', ''), { consent: { purpose: 'marketing', channel: 'email' } }],
  [row('consent.email', 'missing', ''), { not: { consent: { purpose: 'marketing', channel: 'email' } } }],
  [row('stage', '!=', 'lead'), { field: 'stage', op: '!=', value: 'lead' }],
  [row('segments.rfm', '=', 'seg_4'), { field: 'segments.rfm', op: '=', value: 'seg_4' }],
  [row('city', 'contains', 'Fort'), { field: 'city', op: 'contains', value: 'Fort' }],
];
const fieldOf = (name: string) => FIELDS.get(name) as Field;

describe('rows of a rule', () => {
  it.each(ROWS)('are conditions of the filter language, and back: %o', (made, condition) => {
    expect(faultOf(made, fieldOf(made.field))).toBeNull();
    expect(conditionOf(made, fieldOf(made.field))).toEqual(condition);
    expect(draftOf('A', condition, FIELDS)).toEqual({ name: 'A', join: 'all', rows: [made], kept: null });
  });

  it.each([
    [row('sales.amount', '>=', ''), 'Fill in a value.'],
    [row('sales.amount', '>=', 'much'), 'A number is needed.'],
    [row('sales.amount', 'between', '5'), 'The upper end is needed too.'],
    [row('sales.amount', 'between', '5', { upper: '4' }), 'The upper end is below the lower one.'],
    [row('near.own', 'within', '0'), 'A distance from 0.1 to 500 km is needed.'],
    [row('near.own', 'within', '501'), 'A distance from 0.1 to 500 km is needed.'],
    [row('stage', '=', ''), 'Choose a value.'],
  ])('say what is missing: %o', (made, said) => {
    expect(faultOf(made, fieldOf(made.field))).toBe(said);
    expect(filterOf({ ...emptyDraft('A'), rows: [made] }, FIELDS)).toBeNull();
  });

  it('begin with the first comparison of their kind', () => {
    expect(emptyRow('near.own', 'near').op).toBe('within');
    expect(faultOf(emptyRow('gone', 'text'), undefined)).toBe('Choose what is asked for.');
  });
});

describe('a draft', () => {
  const rows = ROWS.slice(0, 4).map(([made]) => made);

  it.each(['all', 'any'] as const)('joins its rows by %s, and comes back', (join) => {
    const draft: Draft = { name: 'A', join, rows, kept: null };
    const filter = filterOf(draft, FIELDS);
    expect(filter).toEqual({ [join]: ROWS.slice(0, 4).map(([, condition]) => condition) });
    expect(draftOf('A', filter, FIELDS)).toEqual(draft);
  });

  it('of nothing is no rule', () => {
    expect(filterOf(emptyDraft('A'), FIELDS)).toBeNull();
  });

  it.each([
    [{ all: [{ any: [{ field: 'stage', op: '=', value: 'lead' }] }] }],
    [{ field: 'stage', op: 'in', value: ['lead', 'active'] }],
    [{ field: 'attributes.plan', op: '=', value: 'gold' }],
    [{ within: { area: 'ter_1' } }],
    [{ not: { field: 'stage', op: '=', value: 'lead' } }],
    [{ near: { lon: 1, lat: 2, radius_m: 5 } }],
  ])('that the form cannot show is kept whole: %o', (filter) => {
    const draft = draftOf('A', filter, FIELDS);
    expect([draft.rows, draft.kept]).toEqual([[], filter]);
    expect(filterOf(draft, FIELDS)).toBe(filter);
  });

  it('is a rule of the method with its name trimmed', () => {
    expect(rulesParameter([{ ...emptyDraft(' Near '), rows: rows.slice(3) }], FIELDS)).toEqual({
      rules: [{ name: 'Near', filter: { near: { place_kind: 'own', radius_m: 2100 } } }],
    });
  });
});
