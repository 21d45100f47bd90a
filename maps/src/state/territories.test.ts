import { describe, expect, it } from 'vitest';
import { inNone, worthTelling } from './territories';

const COUNTIES = { key: 'counties', is_primary: false };
const SALES = { key: 'sales', is_primary: true };
const SERVICE = { key: 'service', is_primary: false };
const somewhere = { id: 'ter_1' };

describe('what is told of territories', () => {
  it('begins with the primary layer, with an area or without', () => {
    for (const area of [somewhere, null]) {
      const rows = [
        { layer: COUNTIES, area: somewhere },
        { layer: SALES, area },
      ];
      expect(worthTelling(rows).map((row) => row.layer.key)).toEqual(['sales', 'counties']);
    }
  });

  it('leaves out other layers that do not match', () => {
    const rows = [
      { layer: SERVICE, area: null },
      { layer: COUNTIES, area: null },
      { layer: SALES, area: null },
    ];
    expect(worthTelling(rows)).toEqual([{ layer: SALES, area: null }]);
  });

  it.each([
    ['Sales', 'In no sales territory'],
    ['Sales territories', 'In no sales territory'],
    ['Territories', 'In no territory'],
  ])('%s: %s', (name, said) => {
    expect(inNone(name)).toBe(said);
  });
});
