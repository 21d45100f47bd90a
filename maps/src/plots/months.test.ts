import { describe, expect, it } from 'vitest';
import { mainCurrency, months, sum, ticks } from './months';

const sale = (occurred_at: string, amount: string, currency = 'USD') => ({ occurred_at, amount, currency });

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
  it('shows months without sales as zero', () => {
    const rows = [
      sale('2025-11-30T23:59:59Z', '10'),
      sale('2026-02-01T00:00:00Z', '5'),
      sale('2026-02-03T00:00:00Z', '6'),
    ];
    expect(months(rows, 'USD')).toEqual([
      { month: '2025-11', amount: 10, sales: 1 },
      { month: '2025-12', amount: 0, sales: 0 },
      { month: '2026-01', amount: 0, sales: 0 },
      { month: '2026-02', amount: 11, sales: 2 },
    ]);
  });

  it('leaves other currencies and impossible dates out', () => {
    const rows = [sale('2026-01-05T00:00:00Z', '1'), sale('2026-01-05T00:00:00Z', '2', 'EUR'), sale('soon', '3')];
    expect(months(rows, 'USD')).toEqual([{ month: '2026-01', amount: 1, sales: 1 }]);
    expect(months([], 'USD')).toEqual([]);
  });

  it('keeps the last ones', () => {
    const rows = [sale('2010-01-01T00:00:00Z', '1'), sale('2026-01-01T00:00:00Z', '1')];
    expect(months(rows, 'USD')).toHaveLength(36);
    expect(months(rows, 'USD').at(-1)?.month).toBe('2026-01');
  });

  it('takes the currency of most sales', () => {
    expect(mainCurrency([sale('', '1', 'EUR'), sale('', '1'), sale('', '1')])).toBe('USD');
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
