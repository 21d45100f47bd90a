import { describe, expect, it } from 'vitest';
import { knownZones, momentOf, wallOf } from './zoned';

describe('times on the clock of a zone', () => {
  it.each([
    ['2026-03-01T08:00', 'America/Denver', '2026-03-01T15:00:00Z'],
    ['2026-07-01T08:00', 'America/Denver', '2026-07-01T14:00:00Z'],
    ['2026-07-01T08:00', 'UTC', '2026-07-01T08:00:00Z'],
    ['2026-10-25T12:00', 'Europe/Zurich', '2026-10-25T11:00:00Z'],
    ['2026-10-24T23:30', 'Asia/Kolkata', '2026-10-24T18:00:00Z'],
    // twice on that night: the first
    ['2026-10-25T02:30', 'Europe/Zurich', '2026-10-25T00:30:00Z'],
  ])('%s in %s is %s', (wall, zone, moment) => {
    expect(momentOf(wall, zone)).toBe(moment);
    expect(wallOf(moment, zone)).toBe(wall);
  });

  it('goes on after an hour that the clock skips', () => {
    expect(wallOf(momentOf('2026-03-29T02:30', 'Europe/Zurich') ?? '', 'Europe/Zurich')).toBe('2026-03-29T03:30');
  });

  it('says where there is none', () => {
    expect(momentOf('', 'UTC')).toBeNull();
    expect(momentOf('2026-13-01T00:00', 'UTC')).toBeNull();
    expect(momentOf('2026-03-01T08:00', 'Nowhere/Land')).toBeNull();
    expect(wallOf('2026-03-01T08:00:00Z', 'Nowhere/Land')).toBeNull();
    expect(knownZones()).toContain('Europe/Zurich');
  });
});
