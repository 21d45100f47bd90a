/** What the rows of a rule can ask for in this company. */

import { computed } from '@preact/signals';
import { words } from '../format';
import { choicesOf } from '../state/legend';
import { KINDS, STAGES } from '../state/model';
import { company } from '../state/session';
import { featureName } from './features';
import type { Field, Option } from './rules';

const NEAR: readonly { kind: string; label: string }[] = [
  { kind: 'own', label: 'Distance to an own shop' },
  { kind: 'competitor', label: 'Distance to a competitor' },
  { kind: 'depot', label: 'Distance to a depot' },
  { kind: 'branch', label: 'Distance to a branch' },
];

const plain = (values: readonly string[]): Option[] => values.map((value) => ({ value, name: words(value) }));
const named = (field: 'owner' | 'territory'): Option[] =>
  choicesOf(field).map(({ key, name }) => ({ value: key, name }));

/** All fields, in the order of the list that one chooses from. */
const fields = computed<readonly Field[]>(() => {
  const { places, segmentations } = company.value;
  const published = segmentations.filter((row) => row.current_run !== null);
  return [
    { name: 'sales.amount', label: 'Bought in all', group: 'Sales', kind: 'number', windowed: true },
    { name: 'sales.count', label: 'Number of orders', group: 'Sales', kind: 'number', windowed: true },
    { name: 'sales.average', label: 'An order on average', group: 'Sales', kind: 'number', windowed: true },
    { name: 'sales.last_at', label: 'Last order', group: 'Sales', kind: 'day' },
    { name: 'sales.first_at', label: 'First order', group: 'Sales', kind: 'day' },
    { name: 'visits.count', label: 'Number of visits', group: 'Contact', kind: 'number', windowed: true },
    { name: 'visits.last_at', label: 'Last visit', group: 'Contact', kind: 'day' },
    { name: 'interactions.count', label: 'Number of contacts', group: 'Contact', kind: 'number', windowed: true },
    { name: 'interactions.last_at', label: 'Last contact', group: 'Contact', kind: 'day' },
    { name: 'complaints.count', label: 'Number of complaints', group: 'Contact', kind: 'number', windowed: true },
    ...published.map(
      (row): Field => ({
        name: `segments.${row.key}`,
        label: row.name,
        group: 'Segments',
        kind: 'segment',
        options: row.segments.map(({ id, name }) => ({ value: id, name })),
      }),
    ),
    ...published.flatMap((row) =>
      row.score_names.map(
        (score): Field => ({
          name: `scores.${row.key}.${score}`,
          label: `${featureName(score)} (${row.name})`,
          group: 'Scores',
          kind: 'number',
        }),
      ),
    ),
    ...NEAR.filter(({ kind }) => places.some((place) => place.kind === kind)).map(
      ({ kind, label }): Field => ({ name: `near.${kind}`, label, group: 'Place', kind: 'near', unit: 'km' }),
    ),
    { name: 'region', label: 'State or region', group: 'Place', kind: 'text' },
    { name: 'city', label: 'Town', group: 'Place', kind: 'text' },
    { name: 'territory', label: 'Territory', group: 'Place', kind: 'choice', options: named('territory') },
    { name: 'stage', label: 'Stage', group: 'Customer', kind: 'choice', options: plain(STAGES) },
    { name: 'kind', label: 'Person or organisation', group: 'Customer', kind: 'choice', options: plain(KINDS) },
    { name: 'industry', label: 'Industry', group: 'Customer', kind: 'text' },
    { name: 'size_class', label: 'Size', group: 'Customer', kind: 'text' },
    { name: 'owner', label: 'Owner', group: 'Customer', kind: 'choice', options: named('owner') },
    { name: 'consent.email', label: 'Consent to marketing by e-mail', group: 'Consent', kind: 'consent' },
    { name: 'consent.phone', label: 'Consent to marketing by phone', group: 'Consent', kind: 'consent' },
    { name: 'consent.post', label: 'Consent to marketing by post', group: 'Consent', kind: 'consent' },
  ];
});

export const ruleFields = computed<ReadonlyMap<string, Field>>(
  () => new Map(fields.value.map((field) => [field.name, field])),
);
