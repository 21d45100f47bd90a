import { describe, expect, it } from 'vitest';
import type { Automation } from '../api/shapes';
import type { Field } from '../segments/rules';
import { actionWords, automationBody, automationForm, latestWords, triggerWords } from './automation';

const FIELDS: ReadonlyMap<string, Field> = new Map([
  ['stage', { name: 'stage', label: 'Stage', group: 'Customer', kind: 'choice', options: [] } as Field],
]);

const NO_TRIGGER = { type: null, tag: null, external_id: null, days: null, at: null, time_zone: null };
const NO_ACTION = { offer_id: null, audience_id: null, hours: null, title: null, details: null, due_days: null };
const HELD = {
  name: 'Welcome',
  trigger: { ...NO_TRIGGER, kind: 'event', type: 'geofence.dwelled', tag: 'doors', external_id: 'union' },
  action: { ...NO_ACTION, kind: 'offer', offer_id: 'off_3', hours: 2 },
  condition: { field: 'stage', op: '=', value: 'active' },
  consent_purpose: null,
  cap_days: 7,
  hold_out_share: 0.125,
  campaign_id: 'cam_2',
} as unknown as Automation;
const WEEKLY = {
  ...HELD,
  trigger: { ...NO_TRIGGER, kind: 'schedule', days: ['mon', 'tue'], at: '08:00', time_zone: 'America/Denver' },
  action: { ...NO_ACTION, kind: 'task', title: 'Call', details: 'Ask', due_days: 2 },
  condition: null,
  cap_days: null,
} as unknown as Automation;

describe('the form of an automation', () => {
  it('comes back as what it was', () => {
    const { body, faults } = automationBody(automationForm(HELD, 'UTC', FIELDS), FIELDS);
    expect(faults).toEqual([]);
    expect(body).toEqual({
      name: 'Welcome',
      trigger: { kind: 'event', type: 'geofence.dwelled', tag: 'doors', external_id: 'union' },
      action: { kind: 'offer', offer_id: 'off_3', hours: 2 },
      condition: { field: 'stage', op: '=', value: 'active' },
      consent_purpose: null,
      cap_days: 7,
      hold_out_share: 0.125,
      campaign_id: 'cam_2',
    });
    expect(automationBody(automationForm(WEEKLY, 'UTC', FIELDS), FIELDS).body).toMatchObject({
      trigger: { kind: 'schedule', days: ['mon', 'tue'], at: '08:00', time_zone: 'America/Denver' },
      action: { kind: 'task', title: 'Call', details: 'Ask', due_days: 2 },
      condition: null,
      cap_days: null,
    });
  });

  it('asks a new one for its name, its fence and its offer', () => {
    const { faults } = automationBody(automationForm(null, 'UTC', FIELDS), FIELDS);
    expect(faults.map(({ pointer }) => pointer)).toEqual(['/name', '/trigger/tag', '/action/offer_id']);
  });

  it.each([
    [{ tag: '' }, '/trigger/tag'],
    [{ trigger: 'schedule' as const, days: [] }, '/trigger/days'],
    [{ action: 'task' as const, due: '1.5', title: 'x' }, '/action/due_days'],
    [{ action: 'task' as const }, '/action/title'],
    [{ action: 'audience' as const }, '/action/audience_id'],
    [{ hours: '-1' }, '/action/hours'],
    [{ capDays: '0' }, '/cap_days'],
    [{ holdOut: '101' }, '/hold_out_share'],
    [{ condition: { name: '', join: 'all' as const, rows: [], kept: null } }, '/condition'],
  ])('says what is wrong with %o', (part, pointer) => {
    const form = { ...automationForm(HELD, 'UTC', FIELDS), ...part };
    expect(automationBody(form, FIELDS).faults.map((fault) => fault.pointer)).toEqual([pointer]);
  });
});

it('says what sets it off and what it does', () => {
  const names = new Map([['off_3', '“Door”']]);
  expect(triggerWords(HELD)).toBe('A customer stays in doors/union');
  expect(triggerWords(WEEKLY)).toBe('Mon, Tue at 08:00 (America/Denver)');
  expect(actionWords(HELD, names)).toBe('The offer “Door”, for 2 hours');
  expect(actionWords(WEEKLY, names)).toBe('A task for the territory’s rep, due after 2 days: Call');
});

it('says what came of it', () => {
  const none = { last_at: null, done: 0, skipped: 0, failed: 0, waiting: 0, forgotten: 0 };
  expect(latestWords(none)).toBeNull();
  expect(latestWords({ ...none, last_at: '2026-03-02T09:00:00Z', done: 1200, failed: 1 })).toBe('1,200 done, 1 failed');
});
