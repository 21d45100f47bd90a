import { describe, expect, it } from 'vitest';
import { inside, labelsOf, within } from './labels';
import type { Bounds } from './map';

const box = (west: number, south: number, east: number, north: number) => [
  [west, south],
  [east, south],
  [east, north],
  [west, north],
  [west, south],
];
const WORLD: Bounds = [-180, -85, 180, 85];

describe('labels', () => {
  it('are one for an area, in its largest piece', () => {
    const pieces = [
      { id: 'ter_1', name: 'North', rings: [box(0, 0, 1, 1)] },
      { id: 'ter_1', name: 'North', rings: [box(1, 0, 5, 4)] },
      { id: 'ter_2', name: 'South', rings: [box(0, -5, 2, -1)] },
    ];
    expect(labelsOf(pieces, WORLD)).toEqual([
      { id: 'ter_1', name: 'North', lon: 3, lat: 2 },
      { id: 'ter_2', name: 'South', lon: 1, lat: -3 },
    ]);
  });

  it('prefer what can be seen', () => {
    const pieces = [
      { id: 'ter_1', name: 'North', rings: [box(0, 0, 1, 1)] },
      { id: 'ter_1', name: 'North', rings: [box(1, 0, 5, 4)] },
    ];
    expect(labelsOf(pieces, [-1, -1, 1, 1])[0]).toMatchObject({ lon: 0.5, lat: 0.5 });
  });

  it('stand inside a hollow shape too', () => {
    const horseshoe = [
      [0, 0],
      [9, 0],
      [9, 9],
      [7, 9],
      [7, 2],
      [2, 2],
      [2, 9],
      [0, 9],
      [0, 0],
    ];
    const [x, y] = inside(horseshoe);
    expect(y > 2 ? x < 2 || x > 7 : true).toBe(true);
  });
});

it('knows views over the date line', () => {
  expect(within([170, -20, 190, 0], -175, -10)).toBe(true);
  expect(within([170, -20, 190, 0], 160, -10)).toBe(false);
});
