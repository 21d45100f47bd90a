import { describe, expect, it } from 'vitest';
import { mainCurrency, sum, ticks, unbroken } from './months';

const sold = (month: string, amount: string, count = 1, currency = 'USD') => ({ month, amount, count, currency });

describe('sums', () => {
  it('are exact where floats are not', () => {
    expect(sum(['0.1', '0.2'])).toBe('0.3000');
    expect(sum(Array.from({ length: 10_000 }, () => '0.0001'))).toBe('1.0000');
    expect(sum(['99999999999999.9999', '0.0001'])).toBe('100000000000000.0000');
  });

  it('take returns off', () => {
    expect(sum(['10.5000', '-12.25'])).toBe('-1.7500');
    expect(sum([])).toBe('0.0000');
  });
});

describe('months', () => {
  it('shows months without sales as zero, over the turn of a year', () => {
    const rows = [sold('2026-02', '11.5000', 2), sold('2025-11', '10')];
    expect(unbroken(rows, 'USD')).toEqual([
      sold('2025-11', '10'),
      sold('2025-12', '0', 0),
      sold('2026-01', '0', 0),
      sold('2026-02', '11.5000', 2),
    ]);
  });

  it('leaves other currencies and impossible months out', () => {
    const rows = [sold('2026-01', '1'), sold('2026-01', '2', 1, 'EUR'), sold('soon', '3')];
    expect(unbroken(rows, 'USD')).toEqual([sold('2026-01', '1')]);
    expect(unbroken([], 'USD')).toEqual([]);
  });

  it('takes the currency of most sales', () => {
    expect(mainCurrency([sold('2026-01', '9', 5, 'EUR'), sold('2026-01', '1', 3), sold('2026-02', '1', 3)])).toBe(
      'USD',
    );
    expect(mainCurrency([])).toBeNull();
  });
});

describe('ticks', () => {
  it.each([
    [0, 900],
    [-250, 80],
    [0, 0.03],
    [0, 3_400_000],
    [-5, -1],
  ])('cover %d to %d with few round numbers and zero', (least, most) => {
    const marks = ticks(least, most);
    expect(marks[0]).toBeLessThanOrEqual(least);
    expect(marks.at(-1)).toBeGreaterThanOrEqual(most);
    expect(marks).toContain(0);
    expect(marks.length).toBeGreaterThanOrEqual(3);
    expect(marks.length).toBeLessThanOrEqual(6);
  });

  it('survive a flat line', () => {
    expect(ticks(0, 0)).toEqual([0, 1]);
  });
});
