import { describe, expect, it } from 'vitest';
import { INKS } from '../map/style';
import {
  COLOURS,
  contrast,
  luminance,
  marksFor,
  NONE,
  OTHER,
  SHADES,
  SHAPES,
  STAGE_MARKS,
  shadeMarks,
} from './palette';

/** Deuteranopia as a matrix on linear RGB (Machado, Oliveira, Fernandes 2009, severity 1). */
function deuteranopia(colour: string): [number, number, number] {
  const value = Number.parseInt(colour.slice(1), 16);
  const linear = [value >> 16, (value >> 8) & 255, value & 255].map((c) => (c / 255) ** 2.2) as [
    number,
    number,
    number,
  ];
  const rows = [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.01182, 0.04294, 0.968881],
  ];
  return rows.map((row) => row.reduce((sum, factor, i) => sum + factor * (linear[i] ?? 0), 0)) as [
    number,
    number,
    number,
  ];
}

describe('marks', () => {
  const keys = Array.from({ length: 60 }, (_, i) => `usr_${i + 1}`);

  it('are all different up to 56 keys, then grey', () => {
    const marks = [...marksFor(keys).values()];
    const named = marks.slice(0, COLOURS.length * SHAPES.length).map((m) => m.colour + m.shape);
    expect(new Set(named).size).toBe(56);
    expect(marks.slice(56).every((mark) => mark === OTHER)).toBe(true);
  });

  it('do not depend on the order or on how often a key comes', () => {
    const shuffled = [...keys, ...keys].reverse();
    expect([...marksFor(shuffled)]).toEqual([...marksFor(keys)]);
    expect([...marksFor(['usr_10', 'usr_9']).keys()]).toEqual(['usr_9', 'usr_10']);
  });

  it('give none to those without a key', () => {
    expect(marksFor([NONE, 'ter_1']).has(NONE)).toBe(false);
  });

  it('of the stages differ in shape and in colour, also with deuteranopia', () => {
    const marks = Object.values(STAGE_MARKS);
    expect(new Set(marks.map((m) => m.shape)).size).toBe(marks.length);
    for (const [i, first] of marks.entries()) {
      for (const second of marks.slice(i + 1)) {
        const [a, b] = [deuteranopia(first.colour), deuteranopia(second.colour)];
        expect(Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2])).toBeGreaterThan(0.1);
      }
    }
  });
});

it('lets the first of many segments share their colours last', () => {
  const eleven = Array.from({ length: 11 }, (_, i) => `seg_${i + 1}`);
  const colours = eleven.map((key) => marksFor(eleven, 'there and back').get(key)?.colour);
  expect(new Set(colours.slice(0, 7)).size).toBe(7);
  expect(colours.slice(7)).toEqual([colours[6], colours[5], colours[4], colours[3]]);
  expect(new Set([...marksFor(eleven, 'there and back').values()].map((mark) => JSON.stringify(mark))).size).toBe(11);
  expect(marksFor(eleven.slice(0, 7), 'there and back')).toEqual(marksFor(eleven.slice(0, 7)));
});

describe('shades of a score', () => {
  it.each(['light', 'dark', 'sunlight'] as const)('stand out from the %s map, the higher the more', (theme) => {
    const { land, surface } = INKS[theme];
    const marks = [...shadeMarks(5, theme === 'dark')].filter(([key]) => key !== NONE).map(([, mark]) => mark.colour);
    expect(marks).toEqual(SHADES[theme === 'dark' ? 'dark' : 'light']);
    for (const ground of [land, surface]) {
      const contrasts = marks.map((colour) => contrast(colour, ground));
      expect(Math.min(...contrasts)).toBeGreaterThan(3);
      for (const [i, value] of contrasts.entries()) expect(value).toBeGreaterThan(1.25 * (contrasts[i - 1] ?? 0));
    }
  });

  it('can be told apart in grey and with deuteranopia', () => {
    for (const ramp of Object.values(SHADES)) {
      for (const [i, colour] of ramp.slice(1).entries()) {
        const before = ramp[i] ?? '';
        const [light, dark] = [luminance(colour), luminance(before)].sort((a, b) => b - a) as [number, number];
        expect((light + 0.05) / (dark + 0.05)).toBeGreaterThan(1.25);
        const [a, b] = [deuteranopia(colour), deuteranopia(before)];
        expect(Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2])).toBeGreaterThan(0.05);
      }
    }
  });

  it('are as far apart as they can be where there are few, and never look like no score', () => {
    expect([...shadeMarks(2, false).values()].map(({ colour }) => colour)).toEqual([
      SHADES.light[0],
      SHADES.light[4],
      OTHER.colour,
    ]);
    expect(shadeMarks(1, true).get('0')?.colour).toBe(SHADES.dark[4]);
    expect(shadeMarks(5, true).get(NONE)?.shape).toBe('cross');
  });
});

it('knows the contrasts of WCAG', () => {
  expect(contrast('#000000', '#ffffff')).toBeCloseTo(21, 5);
  expect(contrast('#777777', '#ffffff')).toBeCloseTo(4.48, 2);
});
