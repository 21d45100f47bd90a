import { describe, expect, it } from 'vitest';
import { apart, featureBars, REACH, timesAverage } from './profile';

const rows = [
  { label: 0, feature: 'orders', mean: 8, average: 4 },
  { label: 1, feature: 'orders', mean: 2, average: 4 },
  { label: 0, feature: 'days', mean: 100, average: 101 },
  { label: 1, feature: 'days', mean: 103, average: 101 },
  { label: 0, feature: 'returns', mean: 0, average: 0.1 },
  { label: 1, feature: 'returns', mean: 7, average: 0.1 },
  { label: 0, feature: 'west', mean: -100, average: -105 },
  { label: 0, feature: 'none', mean: null, average: null },
];

describe('bars against the average', () => {
  const bars = featureBars(rows, [0, 1]);

  it('put first what tells the segments apart, and leave out what has no ratio', () => {
    expect(bars.map(({ feature }) => feature)).toEqual(['returns', 'orders', 'days']);
  });

  it('are doublings and halvings, cut at the reach', () => {
    const heights = (feature: string) => bars.find((one) => one.feature === feature)?.bars.map((bar) => bar.height);
    expect(heights('orders')).toEqual([1, -1]);
    expect(heights('returns')).toEqual([-REACH, REACH]);
    expect(bars[1]?.spread).toBeCloseTo(1, 12);
  });

  it('miss a segment of which nothing is told', () => {
    const hidden = featureBars(rows.slice(0, 1), [0, 1]);
    expect(hidden[0]?.bars.map(({ label }) => label)).toEqual([0]);
    expect(featureBars([], [0])).toEqual([]);
  });
});

it('says how far apart two means are', () => {
  expect([apart(8, 4), apart(2, 4), apart(3, 0)]).toEqual([1, 1, 0]);
});

it('says how many times the average', () => {
  expect(timesAverage(8, 4)).toBe('2 times');
  expect(timesAverage(50, 4)).toBe('13 times');
  expect(timesAverage(0.05, 4)).toBe('0.01 times');
});
