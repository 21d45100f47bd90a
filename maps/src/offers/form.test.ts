import { describe, expect, it } from 'vitest';
import type { OfferVersion } from '../api/shapes';
import type { Field } from '../segments/rules';
import { type Area, bodyOf, faultsOf, formOf, inOrder, toggledArea } from './form';

const FIELDS: ReadonlyMap<string, Field> = new Map([
  ['stage', { name: 'stage', label: 'Stage', group: 'Customer', kind: 'choice', options: [] } as Field],
]);

const VERSION = {
  version: 2,
  title: 'A roll',
  terms: null,
  product_ids: ['prd_4'],
  attributes: { code: 'ROLL', colour: 'red' },
  audience: { all: [{ field: 'stage', op: '=', value: 'active' }] },
  consent_purpose: null,
  areas: [
    {
      kind: 'area',
      name: 'Front Range',
      layer_id: 'lay_1',
      area_id: 'ter_3',
      place_id: null,
      place_kind: null,
      radius_m: null,
    },
    { kind: 'places', name: null, layer_id: null, area_id: null, place_id: null, place_kind: 'own', radius_m: 300 },
  ],
  starts_at: null,
  ends_at: '2026-03-31T22:00:00Z',
  time_zone: 'America/Denver',
  hours: [{ days: ['mon', 'tue'], from: '07:00', to: '24:00' }],
  closed_on: ['2026-03-17'],
  cap_total: 500,
  cap_per_customer: null,
  priority: -2,
  hold_out_share: 0.125,
  hold_out_unit: 'area',
} as unknown as OfferVersion;

const NOW = new Date('2026-03-10T12:00:00Z');

describe('the form of an offer', () => {
  it('comes back as what it was', () => {
    const { body, faults } = bodyOf(formOf('Breakfast', VERSION, 'UTC', FIELDS), FIELDS, NOW);
    expect(faults).toEqual([]);
    expect(body).toEqual({
      name: 'Breakfast',
      campaign_id: null,
      title: 'A roll',
      terms: null,
      product_ids: ['prd_4'],
      attributes: { code: 'ROLL', colour: 'red' },
      audience: { field: 'stage', op: '=', value: 'active' },
      consent_purpose: null,
      areas: [{ area_id: 'ter_3' }, { place_kind: 'own', radius_m: 300 }],
      starts_at: null,
      ends_at: '2026-03-31T22:00:00Z',
      time_zone: 'America/Denver',
      hours: [{ days: ['mon', 'tue'], from: '07:00', to: '24:00' }],
      closed_on: ['2026-03-17'],
      cap_total: 500,
      cap_per_customer: null,
      priority: -2,
      hold_out_share: 0.125,
      hold_out_unit: 'area',
    });
  });

  it('asks a new one for what nobody can guess, and holds out a tenth', () => {
    const form = formOf('', null, 'Europe/Zurich', FIELDS);
    expect(bodyOf({ ...form, name: 'x' }, FIELDS).faults).toEqual([]);
    expect(bodyOf({ ...form, name: 'x' }, FIELDS).body).toMatchObject({
      hold_out_share: 0.1,
      audience: null,
      areas: [],
    });
    expect(bodyOf(form, FIELDS).faults.map(({ pointer }) => pointer)).toEqual(['/name']);
  });

  it.each([
    [{ capTotal: '2.5' }, '/cap_total'],
    [{ capEach: '0' }, '/cap_per_customer'],
    [{ priority: 'high' }, '/priority'],
    [{ holdOut: 'a tenth' }, '/hold_out_share'],
    [{ holdOut: '91' }, '/hold_out_share'],
    [{ areas: [{ area_id: 'ter_3' }, { place_kind: 'own', radius_m: 0 }] }, '/areas/1/radius_m'],
    [{ ends: '2026-03-10T12:00' }, '/ends_at'],
    [{ who: 'conditions' as const }, '/audience'],
    [{ who: 'list' as const }, '/audience'],
    [{ pairs: [{ name: '', value: 'red' }] }, '/attributes'],
    [{ ends: '2026-02-31' }, '/ends_at'],
    [{ hours: [{ days: [], from: '07:00', to: '11:00' }] }, '/hours/0/days'],
  ])('says what is wrong with %o', (part, pointer) => {
    const form = { ...formOf('x', null, 'UTC', FIELDS), ...part };
    expect(bodyOf(form, FIELDS, NOW).faults.map((fault) => fault.pointer)).toEqual([pointer]);
  });
});

it('changes the code and leaves what else the app is given', () => {
  const form = formOf('x', VERSION, 'UTC', FIELDS);
  expect(bodyOf({ ...form, code: 'BUN' }, FIELDS).body.attributes).toEqual({ code: 'BUN', colour: 'red' });
  expect(bodyOf({ ...form, code: '' }, FIELDS).body.attributes).toEqual({ colour: 'red' });
  const odd = formOf('x', { ...VERSION, attributes: { code: 7, limits: [1] } } as OfferVersion, 'UTC', FIELDS);
  expect(bodyOf(odd, FIELDS).body.attributes).toEqual({ code: 7, limits: [1] });
  const pairs = odd.pairs.map((pair) => ({ ...pair, value: '8' }));
  expect(bodyOf({ ...odd, pairs }, FIELDS).body.attributes).toEqual({ code: '8', limits: '8' });
});

it.each([[{ audience: 'aud_3' }], [{ all: [{ audience: 'aud_3' }] }]])('knows the list in %o', (audience) => {
  const form = formOf('x', { ...VERSION, audience } as OfferVersion, 'UTC', FIELDS, 'cam_7');
  expect([form.who, form.list]).toEqual(['list', 'aud_3']);
  expect(bodyOf(form, FIELDS).body).toMatchObject({ audience: { audience: 'aud_3' }, campaign_id: 'cam_7' });
});

it('takes an area once, and leaves it again', () => {
  const area: Area = { area_id: 'ter_3', name: 'Front Range', layer_id: 'lay_1' };
  const both = toggledArea([{ place_kind: 'own', radius_m: 300 }], area);
  expect(both).toHaveLength(2);
  expect(toggledArea(both, { area_id: 'ter_3', name: 'called otherwise' })).toEqual([
    { place_kind: 'own', radius_m: 300 },
  ]);
});

it('tells faults in the order of the form, and last those that have no field', () => {
  const faults = ['/odd', '/hold_out_share', '/hours/0/from', '/name'].map((pointer) => ({ pointer, detail: 'a' }));
  expect(inOrder(faults).map(({ pointer }) => pointer)).toEqual(['/name', '/hours/0/from', '/hold_out_share', '/odd']);
});

it('finds the faults of a field and of its parts', () => {
  const faults = [
    { pointer: '/hours/0/from', detail: 'a' },
    { pointer: '/hours_of_work', detail: 'b' },
    { pointer: '/hours', detail: 'c' },
  ];
  expect(faultsOf(faults, '/hours').map(({ detail }) => detail)).toEqual(['a', 'c']);
});
