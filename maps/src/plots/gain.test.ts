import { expect, it } from 'vitest';
import { reachOf, shares, signedPercent } from './gain';

const measure = { name: 'log loss', with: 0.6, without: 0.5, gain: -0.1, low: -0.12, high: -0.08 };

it('tells gains as shares of the error without', () => {
  const [row] = shares([measure]);
  expect(row?.gain).toBeCloseTo(-0.2, 12);
  expect([row?.low, row?.high]).toEqual([-0.24, -0.16]);
  expect(
    shares([
      { ...measure, without: 0 },
      { ...measure, low: Number.NaN },
    ]),
  ).toEqual([]);
});

it('finds a round axis around zero that holds the intervals', () => {
  expect(reachOf(shares([measure]))).toBeCloseTo(0.5, 12);
  expect(reachOf([])).toBe(0.01);
  expect(reachOf([{ name: '', gain: 0, low: -1, high: 0.3 }])).toBe(1);
});

it('writes shares with their sign', () => {
  expect([0.132, -0.001, 0.00001, -1.014].map(signedPercent)).toEqual(['+13 %', '−0.1 %', '0.0 %', '−101 %']);
});
