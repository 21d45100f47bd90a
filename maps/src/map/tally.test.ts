import { describe, expect, it } from 'vitest';
import { boxOf, count, countsIn, distinct, type Tally } from './tally';

const site = (id: number, stage: string) => ({
  properties: { id: `cus_${id}`, site_id: `sit_${id}`, stage },
  lon: id,
  lat: 0,
});
const cell = (lon: number, n: number, counts: Record<string, number> | null) => ({
  properties: { n, key: 'active', ...(counts ? { counts: JSON.stringify(counts) } : {}) },
  lon,
  lat: 1,
});

describe('the tally', () => {
  it('counts a feature once, in however many tiles it is', () => {
    const features = [site(1, 'active'), site(1, 'active'), site(2, 'lead'), cell(7, 5, null), cell(7, 5, null)];
    expect(count(distinct(features), 'stage').total).toBe(7);
  });

  it('counts two sites of one customer twice', () => {
    const second = { ...site(1, 'active'), properties: { ...site(1, 'active').properties, site_id: 'sit_9' } };
    expect(count(distinct([site(1, 'active'), second]), 'stage').byKey.get('active')).toBe(2);
  });

  it('is exact where the cells told all their keys', () => {
    const { byKey, exact, total } = count([cell(1, 7, { active: 4, lead: 3 }), site(1, 'lead')], 'stage');
    expect([total, exact, byKey.get('active'), byKey.get('lead')]).toEqual([8, true, 4, 4]);
  });

  it('says where they did not', () => {
    expect(count([cell(1, 9, { usr_1: 4, usr_2: 3 })], 'owner')).toMatchObject({ total: 9, exact: false });
    expect(count([cell(1, 9, null)], 'owner').exact).toBe(false);
    expect(count([cell(1, 1, null)], 'owner').exact).toBe(true);
  });

  it('keeps those without a key', () => {
    expect(count([site(1, 'active')], 'owner').byKey.get('')).toBe(1);
    expect(count([], 'owner')).toEqual({ total: 0, colour: 'owner', byKey: new Map(), exact: true, sampled: false });
  });

  it('takes shades of points, and of cells as many as the looked at ones stand for', () => {
    const shaded = { ...site(1, 'active'), properties: { ...site(1, 'active').properties, shade: 2 } };
    const looked = cell(3, 100, { '0': 5, '2': 15 });
    const part = { ...looked, properties: { ...looked.properties, looked_at: 20 } };
    const whole = { ...looked, properties: { ...looked.properties, n: 20, looked_at: 20 } };
    expect(count([shaded, site(2, 'lead'), whole], 'score')).toEqual({
      total: 22,
      colour: 'score',
      byKey: new Map([
        ['2', 16],
        ['', 1],
        ['0', 5],
      ]),
      exact: true,
      sampled: false,
    });
    const rough = count([shaded, part], 'score');
    expect([rough.total, rough.exact, rough.sampled]).toEqual([101, false, true]);
    expect([rough.byKey.get('0'), rough.byKey.get('2')]).toEqual([25, 76]);
  });
});

describe('the counts of a legend', () => {
  const rough: Tally = { total: 9, colour: 'owner', byKey: new Map([['usr_1', 5]]), exact: false, sampled: false };

  it('are those of the whole where everything is in view', () => {
    expect(countsIn(rough, { usr_1: 6, usr_2: 3 })).toEqual({ counts: { usr_1: 6, usr_2: 3 }, exact: true });
  });

  it('stay lower bounds where there is more than the view shows, or where the whole is not known', () => {
    for (const all of [{ usr_1: 6, usr_2: 4 }, null]) {
      expect(countsIn(rough, all)).toEqual({ counts: { usr_1: 5 }, exact: false });
    }
  });

  it('are those of the view where its tiles tell all', () => {
    const seen: Tally = { total: 5, colour: 'owner', byKey: new Map([['usr_1', 5]]), exact: true, sampled: false };
    expect(countsIn(seen, { usr_1: 4, usr_2: 1 })).toEqual({ counts: { usr_1: 5 }, exact: true });
  });
});

it('knows the box around what it counts', () => {
  expect(boxOf([site(1, 'lead'), site(3, 'lead'), cell(2, 9, null)], 0.5)).toEqual([0.5, -0.5, 3.5, 1.5]);
  expect(boxOf([], 0.5)).toBeNull();
});
