import { describe, expect, it } from 'vitest';
import { COLOURS, contrast, marksFor, NONE, OTHER, SHAPES, STAGE_MARKS } from './palette';

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

it('knows the contrasts of WCAG', () => {
  expect(contrast('#000000', '#ffffff')).toBeCloseTo(21, 5);
  expect(contrast('#777777', '#ffffff')).toBeCloseTo(4.48, 2);
});
