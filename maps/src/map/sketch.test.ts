import { describe, expect, it } from 'vitest';
import { steps } from './changes';
import { boxOfShapes, MOVING, NO_SKETCH, type Part, pathParts, SKETCH, sketchLayers, sketchSources } from './sketch';

const INKS = { accent: '#00f', ink: '#000', halo: '#fff', surface: '#fff' };
const HERE = 'http://127.0.0.1:8000';
const PATH = [
  { lon: 1, lat: 2 },
  { lon: 3, lat: 4 },
  { lon: 5, lat: 0 },
];

describe('a sketch', () => {
  it('draws areas that are chosen, and all of a layer that is picked from', () => {
    const layers = [
      { layer: 'lay_a', chosen: ['are_1'], picking: false },
      { layer: 'lay_b', chosen: [], picking: true },
    ];
    const sources = sketchSources({ ...NO_SKETCH, layers }, HERE, 3);
    expect(JSON.stringify(sources['pick-lay_a'])).toContain(`${HERE}/tiles/areas/lay_a/{z}/{x}/{y}.mvt?edition=3`);
    const { below } = sketchLayers({ ...NO_SKETCH, layers }, INKS);
    const filtered = (id: string) => below.some((layer) => layer.id === id && 'filter' in layer);
    expect(filtered('pick-lay_a-fill')).toBe(true);
    expect(filtered('pick-lay_b-fill')).toBe(false);
  });

  it('moves something without touching what stands still', () => {
    const parts = pathParts(PATH);
    const style = (moving: readonly Part[]) => {
      const sketch = { ...NO_SKETCH, parts, moving };
      const { below, above } = sketchLayers(sketch, INKS);
      return { version: 8 as const, sources: sketchSources(sketch, HERE, 0), layers: [...below, ...above] };
    };
    const [before, after] = [style(pathParts(PATH.slice(0, 1))), style(pathParts(PATH.slice(1, 2)))];
    expect(after.sources[SKETCH]).toBe(before.sources[SKETCH]);
    expect(steps(before, after).map((step) => [step.do, 'id' in step && step.id])).toEqual([['set data', MOVING]]);
  });

  it('closes a path of three corners where it is asked to', () => {
    expect(pathParts(PATH).map(({ role }) => role)).toEqual(['path', 'corner', 'corner', 'corner']);
    const [line] = pathParts(PATH, true);
    expect(line?.geometry).toEqual({
      type: 'LineString',
      coordinates: [
        [1, 2],
        [3, 4],
        [5, 0],
        [1, 2],
      ],
    });
    expect(pathParts(PATH.slice(0, 1))).toHaveLength(1);
  });

  it('knows the box of shapes', () => {
    const shapes = pathParts(PATH).map(({ geometry }) => geometry);
    expect(boxOfShapes(shapes)).toEqual([1, 0, 5, 4]);
    expect(boxOfShapes([])).toBeNull();
    // on both sides of ±180° by the shorter way, alone and with others
    const box = (west: number, east: number): GeoJSON.Geometry => ({
      type: 'MultiPolygon',
      coordinates: [[[[west, -17], [east, -17], [east, -16], [west, -17]]]], // biome-ignore format: one line a ring
    });
    expect(boxOfShapes([box(179, 180), box(-180, -178)])).toEqual([179, -17, 182, -16]);
    expect(boxOfShapes([box(179, 181)])).toEqual([179, -17, 181, -16]);
    expect(boxOfShapes([box(179, 180), box(-180, -178), box(-105, -104)])).toEqual([179, -17, 256, -16]);
    expect(boxOfShapes([box(-105, -104), box(10, 12)])).toEqual([-105, -17, 12, -16]);
  });
});
