import { describe, expect, it } from 'vitest';
import type { Segmentation } from '../api/shapes';
import { conditionWords } from './conditions';
import { type Shades, scoreChoices, scoreOf, shadeCondition, shadeNames, shadeWords } from './shades';

const shades = (change: Partial<Shades>): Shades => ({
  cuts: [],
  by: 'quantile',
  values: [],
  customers: 9210,
  unit: null,
  ...change,
});
const CHURN = shades({ cuts: [0.035, 0.04, 0.12, 0.5] });
const LEAVING = {
  key: 'leaving',
  name: 'Leaving',
  score_names: ['churn', 'churn_low', 'odds_gap', 'overdue_days'],
  shades: { churn: CHURN, churn_low: CHURN, odds_gap: CHURN },
  segments: [],
} as unknown as Segmentation;

describe('the shades of a score', () => {
  it('are named by what they hold, without rounding two lines into one', () => {
    expect(shadeNames('churn', CHURN)).toEqual([
      'below 3.5 %',
      '3.5 % to 4 %',
      '4 % to 12 %',
      '12 % to 50 %',
      '50 % and more',
    ]);
    expect(shadeNames('worth', shades({ cuts: [1200], unit: 'USD' }))).toEqual(['below $1,200', '$1,200 and more']);
    expect(shadeNames('z', shades({ cuts: [-1.25, 0] }))).toEqual(['below −1.25', '−1.25 to 0', '0 and more']);
  });

  it('are the values themselves where there are few', () => {
    expect(shadeNames('r', shades({ by: 'value', cuts: [2, 3, 4, 5], values: [1, 2, 3, 4, 5] }))).toEqual([...'12345']);
    expect(shadeNames('r', shades({ by: 'value', values: [3] }))).toEqual(['3']);
  });

  it('say how they were made', () => {
    expect(shadeWords(CHURN)).toMatch(/fifth of the 9,210 customers/);
    expect(shadeWords(shades({ cuts: [1, 2] }))).toMatch(/fewer shades/);
    expect(shadeWords(shades({ by: 'lowest', cuts: [1, 2, 3, 4] }))).toMatch(/lowest/);
  });

  it('are conditions that share no customer', () => {
    const field = 'scores.leaving.churn';
    expect([0, 2, 4].map((shade) => shadeCondition('leaving', 'churn', CHURN, shade))).toEqual([
      { field, op: '<', value: 0.035 },
      {
        all: [
          { field, op: '>=', value: 0.04 },
          { field, op: '<', value: 0.12 },
        ],
      },
      { field, op: '>=', value: 0.5 },
    ]);
    const said = (shade: number) =>
      conditionWords(JSON.stringify(shadeCondition('leaving', 'churn', CHURN, shade)), []);
    expect([0, 2, 4].map(said)).toEqual([
      'Risk of leaving below 0.035',
      'Risk of leaving from 0.04 to below 0.12',
      'Risk of leaving at least 0.5',
    ]);
  });
});

describe('the scores to colour by', () => {
  it('are those with shades, without what says how sure they are', () => {
    expect(scoreChoices([LEAVING]).map(({ id }) => id)).toEqual(['leaving.churn']);
  });

  it('are found by key and name', () => {
    expect(scoreOf('leaving.churn', [LEAVING])?.shades).toBe(CHURN);
    for (const id of [null, 'leaving.overdue_days', 'gone.churn']) expect(scoreOf(id, [LEAVING])).toBeNull();
  });
});
