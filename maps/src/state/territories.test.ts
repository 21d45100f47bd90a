import { describe, expect, it } from 'vitest';
import { inNone, layerName, worthTelling } from './territories';

const LAYERS = [
  { key: 'counties', name: 'Counties', is_primary: false },
  { key: 'sales', name: 'Sales', is_primary: true },
  { key: 'service', name: 'Service', is_primary: false },
];
const somewhere = { id: 'ter_1' };

describe('what is told of territories', () => {
  it('begins with the primary layer, with a territory or without', () => {
    for (const territory of [somewhere, null]) {
      const rows = [
        { layer: 'counties', territory: somewhere },
        { layer: 'sales', territory },
      ];
      expect(worthTelling(rows, LAYERS).map((row) => row.layer)).toEqual(['sales', 'counties']);
    }
  });

  it('leaves out other layers that do not match', () => {
    const rows = [
      { layer: 'service', territory: null },
      { layer: 'counties', territory: null },
      { layer: 'sales', territory: null },
    ];
    expect(worthTelling(rows, LAYERS)).toEqual([{ layer: 'sales', territory: null }]);
  });

  it.each([
    ['Sales', 'In no sales territory'],
    ['Sales territories', 'In no sales territory'],
    ['Territories', 'In no territory'],
  ])('%s: %s', (name, said) => {
    expect(inNone(name)).toBe(said);
  });

  it('names a layer as the company does', () => {
    expect(layerName('service', LAYERS)).toBe('Service');
    expect(layerName('unknown', LAYERS)).toBe('unknown');
  });
});
