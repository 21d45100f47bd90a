/** How features of customers are called and written. Pure. */

import { count, distance, words } from '../format';

const NAMES: Readonly<Record<string, string>> = {
  recency_days: 'Days since the last order',
  frequency: 'Orders',
  monetary_value: 'Bought in all',
  basket_value: 'An order on average',
  gap_mean_days: 'Days between orders',
  tenure_days: 'Days since the first order',
  returned_share: 'Sent back',
  discount_share: 'Discount',
  own_shop_m: 'To the nearest own shop',
  competitor_m: 'To the nearest competitor',
  p_alive: 'Chance to buy again',
  purchases: 'Expected orders',
  worth: 'Expected worth',
  worth_low: 'Worth, low end',
  worth_high: 'Worth, high end',
  r: 'Recency, 1 to 5',
  f: 'Frequency, 1 to 5',
  m: 'Money, 1 to 5',
};

const FAMILIES: Readonly<Record<string, string>> = { channel_share: 'By', category_share: 'Of', attributes: '' };

/** "Days since the last order"; a share of a channel or category by its name. */
export function featureName(feature: string): string {
  const known = NAMES[feature];
  if (known) return known;
  const [family = '', member] = feature.split(/\.(.*)/s);
  const lead = FAMILIES[family];
  if (member === undefined || lead === undefined) return words(feature);
  return lead === '' ? words(member) : `${lead} ${member}`;
}

/** Coordinates say where, and no average of them says much. */
export const isPosition = (feature: string): boolean => feature === 'lon' || feature === 'lat';

/** A value of a feature as people write it. */
export function featureValue(feature: string, value: number): string {
  if (feature.includes('share') || feature === 'p_alive') return `${Math.round(value * 100)} %`;
  if (feature.endsWith('_m')) return distance(value);
  if (feature.endsWith('_days')) return count(Math.round(value));
  if (Math.abs(value) >= 100) return count(Math.round(value));
  return String(Number(value.toFixed(Math.abs(value) >= 10 ? 0 : 1)));
}
