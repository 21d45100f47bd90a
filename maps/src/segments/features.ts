/** How features of customers are called and written. Pure. */

import { count, distance, words } from '../format';

const NAMES: Readonly<Record<string, string>> = {
  recency_days: 'Days since the last order',
  frequency: 'Orders',
  monetary_value: 'Bought in all',
  basket_value: 'An order on average',
  gap_mean_days: 'Days between orders',
  tenure_days: 'Days since the first order',
  purchase_days: 'Days with an order',
  repeat_frequency: 'Days with an order after the first',
  recency_weeks: 'Weeks from the first order to the last',
  t_weeks: 'Weeks since the first order',
  mean_repeat_value: 'A day with orders on average',
  orders_90: 'Orders in the last 90 days',
  orders_year_before: 'Orders in the year before the last',
  sales_90: 'Bought in the last 90 days',
  sales_year_before: 'Bought in the year before the last',
  returned_share: 'Sent back',
  discount_share: 'Discount',
  own_shop_m: 'To the nearest own shop',
  competitor_m: 'To the nearest competitor',
  churn: 'Risk of leaving',
  churn_low: 'Risk of leaving, low end',
  churn_high: 'Risk of leaving, high end',
  overdue_days: 'Days overdue',
  lateness: 'How late by its own rhythm',
  no_order_log_odds: 'How likely no order is, by its rhythm',
  sales_365: 'Bought in the last year',
  orders_365: 'Orders in the last year',
  contacts_365: 'Contacts in the last year',
  complaints_365: 'Complaints in the last year',
  is_organisation: 'An organisation',
  channel_share: 'By which channel',
  category_share: 'What it buys',
  location: 'Where it is',
  urbanity: 'People around',
  neighbours_left: 'Neighbours who left',
  neighbours_sales_365: 'What neighbours buy in a year',
  z: 'Strength of the spot',
  q: 'Chance of a false alarm',
  local: 'The figure here and around',
  p_alive: 'Chance to buy again',
  purchases: 'Expected orders',
  worth: 'Expected worth',
  worth_low: 'Worth, low end',
  worth_high: 'Worth, high end',
  r: 'Recency, 1 to 5',
  f: 'Frequency, 1 to 5',
  m: 'Money, 1 to 5',
};

/** Scores of a method that tell how much each feature raises the odds of leaving. */
const ODDS = 'odds_';
const CHANCES: ReadonlySet<string> = new Set([
  'p_alive',
  'churn',
  'churn_low',
  'churn_high',
  'q',
  'neighbours_left',
  'is_organisation',
]);

const lower = (text: string): string => text.charAt(0).toLowerCase() + text.slice(1);

/** What says how sure, or why: not to be told beside the score itself where room is short. */
export const isBeside = (score: string): boolean => score.startsWith(ODDS) || /_(low|high)$/.test(score);

const FAMILIES: Readonly<Record<string, string>> = { channel_share: 'By', category_share: 'Of', attributes: '' };

/** A note of a method, its feature called as everywhere: "gap_mean_days: not known of 3 customers". */
export function noteWords(note: string): string {
  const [, feature, rest] = /^([a-z][a-z0-9_]*(?:\.[^:]+)?): (.*)$/s.exec(note) ?? [];
  return feature && rest ? `${featureName(feature)}: ${rest}` : note;
}

export const hasName = (feature: string): boolean => feature in NAMES;

/** "Days since the last order"; a share of a channel or category by its name. */
export function featureName(feature: string): string {
  const known = NAMES[feature];
  if (known) return known;
  if (feature.startsWith(ODDS)) return `Times the odds of leaving: ${lower(featureName(feature.slice(ODDS.length)))}`;
  const [family = '', member] = feature.split(/\.(.*)/s);
  const lead = FAMILIES[family];
  if (member === undefined || lead === undefined) return words(feature);
  return lead === '' ? words(member) : `${lead} ${member}`;
}

/** A bound as it is, to three digits: where `featureValue` would round two of them to the same. */
export function exactValue(feature: string, value: number): string {
  const plain = (n: number) =>
    Math.abs(n) >= 100 ? count(Math.round(n)) : String(Number(n.toPrecision(3))).replace('-', '−');
  return feature.includes('share') || CHANCES.has(feature) ? `${plain(value * 100)} %` : plain(value);
}

/** Coordinates say where, and no average of them says much. */
export const isPosition = (feature: string): boolean => feature === 'lon' || feature === 'lat';

/** A value of a feature as people write it. */
export function featureValue(feature: string, value: number): string {
  if (feature.startsWith(ODDS)) return `${Number(value.toFixed(2))} times the odds`;
  if (feature.includes('share') || CHANCES.has(feature)) return `${Math.round(value * 100)} %`;
  // The logarithm of people per square kilometre, and one.
  if (feature === 'urbanity') return `${count(Math.round(10 ** value - 1))} per km²`;
  if (feature.endsWith('_m')) return distance(value);
  if (feature.endsWith('_days')) return count(Math.round(value));
  if (Math.abs(value) >= 100) return count(Math.round(value));
  return String(Number(value.toFixed(Math.abs(value) >= 10 ? 0 : 1)));
}
