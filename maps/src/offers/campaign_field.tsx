/** Of which campaign something is: what is of one holds out the same customers. */

import * as routes from '../api/routes';
import { useRemote } from '../state/remote';
import { Field } from './faults';
import type { Fault } from './form';
import { stamp } from './state';

interface Props {
  id: string;
  /** `cam_7`; empty for none. */
  campaign: string;
  faults: readonly Fault[];
  /** Whether it can no longer be another one. */
  fixed: boolean;
  change: (campaign: string) => void;
}

export function CampaignField({ id, campaign, faults, fixed, change }: Props) {
  const [remote] = useRemote(`campaigns ${stamp.value}`, routes.campaigns);
  const known = remote.status === 'ready' ? remote.data : [];
  const highest = Math.max(0, ...[campaign, ...known.map((one) => one.id)].map((one) => Number(one.slice(4)) || 0));
  const mine = known.find((one) => one.id === campaign);
  const others = known.filter((one) => one.id !== campaign);
  const next = `cam_${highest + 1}`;
  return (
    <Field
      id={id}
      label="Campaign"
      faults={faults}
      of="/campaign_id"
      hint={
        fixed
          ? 'It is live: in another campaign others would be held out.'
          : 'Offers and automations of one campaign hold out the same customers.'
      }
    >
      {(tied) => (
        <select
          {...tied}
          class="input"
          disabled={fixed}
          value={campaign}
          onChange={(event) => change(event.currentTarget.value)}
        >
          <option value="">Of none</option>
          {campaign !== '' && <option value={campaign}>{called(campaign, mine?.names ?? [])}</option>}
          {others.map((one) => (
            <option key={one.id} value={one.id}>
              {called(one.id, one.names)}
            </option>
          ))}
          {remote.status === 'ready' && <option value={next}>{`A new campaign (${next})`}</option>}
        </select>
      )}
    </Field>
  );
}

const FEW = 3;

const called = (id: string, names: readonly string[]): string => {
  if (names.length === 0) return id;
  return `${id}: ${names.slice(0, FEW).join(', ')}${names.length > FEW ? ' …' : ''}`;
};
