import { describe, expect, it } from 'vitest';
import { parsePoint, reaching, START, type State, toggled } from './model';
import { readUrl, writeUrl } from './url';

const FULL: State = {
  view: { lon: -104.99031, lat: 39.73921, zoom: 11.25 },
  panel: 'near',
  colour: 'owner',
  score: 'value.worth',
  filters: {
    stage: ['active', 'lead'],
    kind: ['person'],
    owner: ['usr_7'],
    territory: ['ter_2', 'ter_3'],
    segment: ['seg_4'],
    where: '{"field":"scores.value.worth","op":">=","value":500}',
  },
  hidden: ['territories', 'places'],
  customer: 'cus_42',
  near: { lon: 8.54, lat: 47.37, from: 'position' },
  radius_m: 25_000,
  here: { lon: 180, lat: -90 },
  as_of: '2025-12-31',
  query: 'Müller & Söhne, 50 %',
  segmentation: 'sgm_3',
  run: 2,
  offer: 'off_7',
  who: 'cus_42',
  spot: { lon: -104.99, lat: 39.74 },
  tool: 'whk_2',
};

describe('the address of the page', () => {
  it('is empty at the start', () => {
    expect(writeUrl(START)).toBe('');
    expect(readUrl('')).toEqual(START);
  });

  it('brings back every part of the state', () => {
    expect(readUrl(writeUrl(FULL))).toEqual(FULL);
  });

  it('is one text for one state, whatever the order of choices', () => {
    const other = {
      ...FULL,
      filters: { ...FULL.filters, stage: toggled(toggled(['active', 'lead'], 'active'), 'active') },
    };
    expect(writeUrl(other)).toBe(writeUrl(FULL));
  });

  it.each([
    ['?at=500,10,3'],
    ['?at=10,91,3'],
    ['?at=,,'],
    ['?at=10,10,99'],
    ['?at=NaN,0,3'],
    ['?panel=admin&colour=shoe'],
    ['?score=worth'],
    ['?offer=cus_7&who=me&spot=1,95'],
    ['?score=value.worth,churn.churn'],
    ['?customer=<script>'],
    ['?customer=../../admin'],
    ['?near=1'],
    ['?here=200,0'],
    ['?as_of=2025-02-30'],
    ['?as_of=yesterday'],
    ['?radius=12'],
    ['?stage=%3Cb%3E&owner=7&territory=ter_'],
    ['?hide=everything'],
    ['?segmentation=sgm_x&run=-1'],
    ['?segmentation=../new&run=1.5'],
    ['?where=stage'],
    ['?where=[1]'],
    ['?where=null'],
  ])('leaves out what is impossible: %s', (search) => {
    expect(readUrl(search)).toEqual(START);
  });

  it('cuts an endless search text', () => {
    expect(readUrl(`?q=${'x'.repeat(5000)}`).query).toHaveLength(200);
  });
});

describe('a typed point', () => {
  it.each([
    ['-104.99, 39.74', { lon: -104.99, lat: 39.74 }],
    ['8.54 47.37', { lon: 8.54, lat: 47.37 }],
    ['180;-90', { lon: 180, lat: -90 }],
  ])('%s', (text, point) => {
    expect(parsePoint(text)).toEqual(point);
  });

  it.each(['', '1', '1,2,3', 'a,b', '181,0', '0,90.01', '1e999,0'])('%s is none', (text) => {
    expect(parsePoint(text)).toBeNull();
  });
});

describe('how far to look', () => {
  it.each([
    [0, 10_000],
    [10_000, 10_000],
    [10_001, 25_000],
    [260_000, 500_000],
    [500_001, null],
  ])('%d m away: within %s', (nearest_m, radius_m) => {
    expect(reaching(nearest_m)).toBe(radius_m);
  });
});
