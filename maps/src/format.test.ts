import { describe, expect, it } from 'vitest';
import { ago, counted, date, distance, money, wind, words } from './format';

describe('distances', () => {
  it.each([
    [0, '0 m'],
    [41.6, '42 m'],
    [412.7, '410 m'],
    [994, '990 m'],
    [996, '1.0 km'],
    [9_949, '9.9 km'],
    [9_951, '10 km'],
    [1_234_567, '1,235 km'],
  ])('%d m is %s', (metres, text) => {
    expect(distance(metres)).toBe(text);
  });
});

describe('bearings', () => {
  it.each([
    [0, 'north'],
    [22.4, 'north'],
    [22.6, 'north-east'],
    [180, 'south'],
    [337.6, 'north'],
    [-90, 'west'],
    [720, 'north'],
  ])('%d° is %s', (bearing, text) => {
    expect(wind(bearing)).toBe(text);
  });
});

describe('money', () => {
  it('rounds only when shown', () => {
    expect(money('24914586.8193', 'USD')).toBe('$24,914,586.82');
    expect(money('-0.5', 'EUR')).toBe('-€0.50');
    expect(money(1_250_000, 'USD', true)).toBe('$1.3M');
  });

  it('survives a currency that is none', () => {
    expect(money('12', '??')).toBe('12.00 ??');
  });
});

describe('times', () => {
  const now = new Date('2026-11-21T12:00:00Z');
  it.each([
    ['2026-11-21T09:00:00Z', 'today'],
    ['2026-11-20T09:00:00Z', 'yesterday'],
    ['2026-11-01T12:00:00Z', '20 days ago'],
    ['2026-05-21T12:00:00Z', '6 months ago'],
    ['2020-01-01T00:00:00Z', '6 years ago'],
    ['2026-12-24T12:00:00Z', 'on Dec 24, 2026'],
  ])('%s is %s', (text, said) => {
    expect(ago(text, now)).toBe(said);
  });

  it('says nothing about what is no date', () => {
    expect(date('soon')).toBe('');
    expect(date(null)).toBe('');
    expect(ago('soon', now)).toBe('');
  });
});

it('counts in words', () => {
  expect(counted(1, 'customer')).toBe('1 customer');
  expect(counted(12_000, 'customer')).toBe('12,000 customers');
  expect(counted(0, 'territory', 'territories')).toBe('0 territories');
  expect(words('north_west')).toBe('North west');
});
