import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Segmentation } from '../api/shapes';
import { conditionWords, inSegment, scoreBetween } from './conditions';
import { featureName, featureValue, isBeside, noteWords } from './features';
import { readResults } from './results';
import { dialWords, isGoing, keyFor, METHOD_NAMES, methodWords, progressOf } from './words';

it('has words for every method of the API', () => {
  const described = JSON.parse(readFileSync(new URL('../../openapi.json', import.meta.url), 'utf8'));
  const methods: string[] = described.components.schemas.NewSegmentation.properties.method.enum;
  expect(methods.length).toBeGreaterThan(3);
  expect(methods.filter((method) => !METHOD_NAMES.includes(method))).toEqual([]);
  expect(methodWords('of_later').name).toBe('Of later');
});

describe('keys', () => {
  it('come from names and are never taken twice', () => {
    expect(keyFor('Große Kunden, 2026!', [])).toBe('gro-e-kunden-2026');
    expect(keyFor('Ärzte', ['arzte'])).toBe('arzte-2');
    expect(keyFor('Ärzte', ['arzte', 'arzte-2'])).toBe('arzte-3');
    expect(keyFor('顧客', [])).toBe('segmentation');
    expect(keyFor('x'.repeat(300), [])).toMatch(/^[A-Za-z0-9_-]{1,60}$/);
  });
});

it.each([
  [0, 'Behaviour alone'],
  [0.3, 'Mostly behaviour, 30 % place'],
  [0.5, 'Both alike, 50 % place'],
  [0.7, 'Mostly place, 70 % place'],
  [1, 'Place alone'],
])('says where the dial stands: %d', (dial, said) => {
  expect(dialWords(dial)).toBe(said);
});

describe('progress', () => {
  it('is that of the phase', () => {
    const run = { status: 'running', progress: { phase: 'reading', done: 20, total: 50 } };
    expect(progressOf(run)).toEqual({ phase: 'Reading', done: 20, total: 50 });
    expect(isGoing(run)).toBe(true);
  });

  it('is nothing yet of a run that waits', () => {
    expect(progressOf({ status: 'queued', progress: {} })).toEqual({
      phase: 'Waiting for its turn',
      done: 0,
      total: null,
    });
    expect(isGoing({ status: 'failed' })).toBe(false);
  });
});

describe('features', () => {
  it('are called and written for people', () => {
    expect(featureName('category_share.Hike & Camp')).toBe('Of Hike & Camp');
    expect(featureName('channel_share.web')).toBe('By web');
    expect(featureName('of_later')).toBe('Of later');
    expect(featureName('odds_recency_days')).toBe('Times the odds of leaving: days since the last order');
    expect(featureValue('odds_recency_days', 2.304)).toBe('2.3 times the odds');
    expect(['churn', 'churn_low', 'odds_lateness'].map(isBeside)).toEqual([false, true, true]);
    expect(noteWords('gap_mean_days: not known of 3')).toBe('Days between orders: not known of 3');
    expect(noteWords('Found on 3 customers: at random')).toBe('Found on 3 customers: at random');
    expect(featureValue('urbanity', 3)).toBe('999 per km²');
    expect(featureValue('own_shop_m', 29034.2)).toBe('29 km');
    expect(featureName('repeat_frequency')).toBe('Days with an order after the first');
    expect(featureValue('is_organisation', 0.204)).toBe('20 %');
    expect(featureValue('returned_share', 0.0506)).toBe('5 %');
    expect(featureValue('recency_days', 49.6)).toBe('50');
    expect(featureValue('frequency', 6.699)).toBe('6.7');
    expect(featureValue('basket_value', 1298.7)).toBe('1,299');
  });
});

describe('conditions', () => {
  const held = { key: 'rfm', name: 'RFM', segments: [{ id: 'seg_1', name: 'Champions' }] } as unknown as Segmentation;

  it('are those of the filter language', () => {
    expect(inSegment('rfm', 'seg_1')).toEqual({ field: 'segments.rfm', op: '=', value: 'seg_1' });
    expect(scoreBetween('value', 'worth', 500, null)).toEqual({ field: 'scores.value.worth', op: '>=', value: 500 });
    expect(scoreBetween('value', 'worth', 0, 9)).toEqual({ field: 'scores.value.worth', op: 'between', value: [0, 9] });
    expect(scoreBetween('value', 'worth', null, null)).toBeNull();
  });

  it('are said in short', () => {
    const said = (condition: object | null) => conditionWords(JSON.stringify(condition), [held]);
    expect(said(inSegment('rfm', 'seg_1'))).toBe('Champions (RFM)');
    expect(said(inSegment('gone', 'seg_1'))).toBe('A segment');
    expect(said(scoreBetween('value', 'p_alive', null, 0.5))).toBe('Chance to buy again at most 0.5');
    expect(said({ all: [] })).toBe('The conditions of a rule');
  });
});

describe('results', () => {
  it('of a method that tells nothing but segments are read', () => {
    const found = readResults({
      results: {
        segments: [
          { id: 'seg_1', label: 0, name: 'A', sentence: '', rule: '', size: 3, share: 0.3 },
          { id: 'seg_2', label: 1, name: 'B', sentence: '', rule: '', size: 7, share: 0.7 },
          { id: 'seg_3', label: 2, name: 'C', sentence: '', rule: '', size: 0, share: 0 },
        ],
        drift: null,
      },
    });
    expect(found.segments.map(({ name }) => name)).toEqual(['B', 'A']);
    expect([found.choice, found.drift, found.profile, found.notes]).toEqual([null, null, [], []]);
  });
});
