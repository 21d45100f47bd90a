import { describe, expect, it } from 'vitest';
import { marksFor, STAGE_MARKS } from '../design/palette';
import { NO_FILTERS } from '../state/model';
import { NO_SKETCH } from './sketch';
import { CUSTOMER_CLUSTERS, CUSTOMERS, circle, customerTiles, type Scene, styleOf } from './style';

const HERE = 'http://127.0.0.1:8000';

const scene = (change: Partial<Scene> = {}): Scene => ({
  theme: 'light',
  colour: 'stage',
  score: null,
  filters: NO_FILTERS,
  hidden: [],
  marks: new Map(Object.entries(STAGE_MARKS)),
  territoryMarks: marksFor(['ter_1', 'ter_2']),
  territoryLayer: 'lay_1',
  places: [{ id: 'pla_1', name: 'Shop', kind: 'own', lon: 1, lat: 2 }],
  selected: [],
  origin: null,
  asked: null,
  asking: false,
  found: null,
  counties: true,
  edition: 0,
  sample: [],
  sketch: NO_SKETCH,
  base: null,
  ...change,
});

describe('the style document', () => {
  it('asks this server for everything', () => {
    const text = JSON.stringify(styleOf(scene(), HERE));
    const addresses = text.match(/https?:\/\/[^"\\]+/g) ?? [];
    expect(addresses.length).toBeGreaterThan(4);
    expect(addresses.filter((address) => !address.startsWith(`${HERE}/`))).toEqual([]);
    expect(styleOf(scene(), HERE).glyphs).toBeUndefined();
  });

  it('draws every layer from a source that it has, under its own name', () => {
    const picking = { ...NO_SKETCH, layers: [{ layer: 'lay_2', chosen: ['are_1'], picking: true }] };
    for (const change of [{}, { territoryLayer: null }, { counties: false }, { sketch: picking }]) {
      const style = styleOf(scene(change), HERE);
      const ids = style.layers.map((layer) => layer.id);
      expect(new Set(ids).size).toBe(ids.length);
      for (const layer of style.layers) {
        if ('source' in layer) expect(Object.keys(style.sources)).toContain(layer.source);
      }
    }
  });

  it('is the same text for the same scene, so that nothing is sent again', () => {
    expect(JSON.stringify(styleOf(scene(), HERE))).toBe(JSON.stringify(styleOf(scene(), HERE)));
  });

  it('does not touch the tiles when only the selection changes', () => {
    const before = styleOf(scene(), HERE).sources[CUSTOMERS];
    const after = styleOf(scene({ selected: [{ lon: 1, lat: 2, precision_m: 25 }] }), HERE).sources[CUSTOMERS];
    expect(after).toEqual(before);
  });

  it('draws one customer as a customer, several as a cluster', () => {
    const layers = styleOf(scene(), HERE).layers.filter((l) => 'source' in l && l.source === CUSTOMER_CLUSTERS);
    const drawn = layers.map((l) => [l.type, JSON.stringify('filter' in l ? l.filter : null)]);
    expect(drawn).toEqual([
      ['circle', '[">",["get","n"],1]'],
      ['symbol', '[">",["get","n"],1]'],
      ['symbol', '["==",["get","n"],1]'],
    ]);
  });

  it('draws the circle in which a roughly placed site lies', () => {
    const notes = (precision_m: number) =>
      JSON.stringify(styleOf(scene({ selected: [{ lon: 1, lat: 2, precision_m }] }), HERE).sources.notes);
    expect(notes(5000)).toContain('"precision"');
    expect(notes(25)).not.toContain('"precision"');
  });

  it('stands without any class in the legend', () => {
    expect(() => styleOf(scene({ marks: new Map(), territoryMarks: new Map() }), HERE)).not.toThrow();
  });

  it("keeps the operator's own basemap under ours", () => {
    const base = {
      version: 8 as const,
      glyphs: `${HERE}/fonts/{fontstack}/{range}.pbf`,
      sources: {},
      layers: [{ id: 'own-ground', type: 'background' as const, paint: {} }],
    };
    const style = styleOf(scene({ base }), HERE);
    expect(style.layers[0]?.id).toBe('own-ground');
    expect(style.glyphs).toBe(base.glyphs);
    expect(style.sources.land).toBeUndefined();
    expect(style.sources[CUSTOMERS]).toBeDefined();
  });
});

it('puts the filters into the address of the tiles', () => {
  const filters = { ...NO_FILTERS, stage: ['active', 'lead'], owner: ['usr_7'] };
  expect(customerTiles(scene({ filters, colour: 'owner' }))).toBe(
    '/tiles/customers/{z}/{x}/{y}.mvt?colour=owner&stage=active,lead&owner=usr_7',
  );
  const score = { field: 'scores.value.worth', cuts: [10, 25.5] };
  expect(customerTiles(scene({ colour: 'score', score, edition: 2 }))).toBe(
    '/tiles/customers/{z}/{x}/{y}.mvt?colour=scores.value.worth&cuts=10,25.5&edition=2',
  );
});

describe('the circle of a radius', () => {
  const haversine = (a: readonly [number, number], b: readonly [number, number]) => {
    const rad = Math.PI / 180;
    const h =
      Math.sin(((b[1] - a[1]) * rad) / 2) ** 2 +
      Math.cos(a[1] * rad) * Math.cos(b[1] * rad) * Math.sin(((b[0] - a[0]) * rad) / 2) ** 2;
    return 2 * 6_371_008.8 * Math.asin(Math.sqrt(h));
  };

  it.each([
    [-104.99, 39.74, 10_000],
    [179.99, -17, 50_000],
    [25, 69, 100_000],
  ])('around %d, %d of %d m', (lon, lat, radius_m) => {
    const ring = circle({ lon, lat }, radius_m);
    for (const point of ring) expect(haversine([lon, lat], point)).toBeCloseTo(radius_m, 1);
    for (let i = 1; i < ring.length; i++) {
      expect(Math.abs((ring[i]?.[0] ?? 0) - (ring[i - 1]?.[0] ?? 0))).toBeLessThan(1);
    }
  });
});
