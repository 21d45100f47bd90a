/** Where an offer holds: areas clicked on the map or found by name, metres around places, fences. */

import { useCallback, useEffect, useState } from 'preact/hooks';
import * as routes from '../api/routes';
import { Failed } from '../components/states';
import { Icon } from '../design/icons';
import { counted } from '../format';
import { useRemote } from '../state/remote';
import { isCoarse } from '../state/screen';
import { company } from '../state/session';
import { Faults, TextField } from './faults';
import { type Area, areaKey, type Fault, isRadius, RADIUS, toggledArea } from './form';
import { fences, holdSketch, loadFences, tileLayer, usePick, useSketch } from './state';
import { onePlace } from './words';

interface Props {
  areas: readonly Area[];
  faults: readonly Fault[];
  change: (change: (areas: readonly Area[]) => readonly Area[]) => void;
}

export function WhereForm({ areas, faults, change }: Props) {
  const [layer, setLayer] = useState('');
  useEffect(() => void loadFences(), []);
  useSketch(holdSketch(areas, layer === '' ? null : tileLayer(layer)));
  const take = useCallback(
    (id: string, name: string) =>
      change((now) => toggledArea(now, { area_id: id, name: name === '' ? id : name, layer_id: layer })),
    [layer],
  );
  usePick(layer === '' ? null : take);
  const add = (area: Area) =>
    change((now) => (now.some((one) => areaKey(one) === areaKey(area)) ? now : [...now, area]));
  return (
    <fieldset class="rule" id="where-form">
      <legend class="field-name">Where</legend>
      {areas.length === 0 ? (
        <p>Everywhere.</p>
      ) : (
        <ul class="chips" aria-label="Where the offer holds">
          {areas.map((area, place) => (
            <li key={areaKey(area)}>
              <span>{onePlace(area)}</span>
              <button
                type="button"
                class="icon-button"
                aria-label={`Take away: ${onePlace(area)}`}
                onClick={() => change((now) => now.filter((_, other) => other !== place))}
              >
                <Icon name="close" />
              </button>
            </li>
          ))}
        </ul>
      )}
      <Faults id="areas" faults={faults} of={['/areas']} />
      <Areas layer={layer} setLayer={setLayer} areas={areas} take={take} />
      <Around areas={areas} change={change} />
      {fences.value.rows.length > 0 && <FenceChoice add={add} />}
    </fieldset>
  );
}

/** Names of a layer that are loaded to search in. */
const FEW = 6;

interface AreasProps {
  layer: string;
  setLayer: (layer: string) => void;
  areas: readonly Area[];
  take: (id: string, name: string) => void;
}

function Areas({ layer, setLayer, areas, take }: AreasProps) {
  const [text, setText] = useState('');
  const [remote, again] = useRemote(layer === '' ? null : `areas ${layer}`, () => routes.areas(layer));
  const sought = text.trim().toLowerCase();
  const found =
    remote.status === 'ready' && sought !== ''
      ? remote.data.filter(({ name }) => name.toLowerCase().includes(sought)).slice(0, FEW)
      : [];
  return (
    <div class="block">
      <div class="field">
        <label for="where-layer">Areas of</label>
        <select
          id="where-layer"
          class="input"
          value={layer}
          onChange={(event) => {
            setLayer(event.currentTarget.value);
            setText('');
          }}
        >
          <option value="">Choose a layer…</option>
          {company.value.layers
            .filter(({ current_version }) => current_version !== null)
            .map((one) => (
              <option key={one.id} value={one.id}>
                {`${one.name} (${counted(one.areas, 'area')})`}
              </option>
            ))}
        </select>
      </div>
      {layer !== '' && (
        <>
          <p class="small" role="status">
            {`${isCoarse.value ? 'Tap' : 'Click'} areas on the map to take them or leave them, or find them by name.`}
          </p>
          <div class="field">
            <label for="where-name">Name of an area</label>
            <input
              id="where-name"
              class="input"
              type="search"
              autocomplete="off"
              value={text}
              onInput={(event) => setText(event.currentTarget.value)}
            />
          </div>
          {remote.status === 'failed' && <Failed problem={remote.problem} again={again} />}
          {sought !== '' && remote.status === 'ready' && found.length === 0 && (
            <p class="small quiet">{`No area is called “${text}”.`}</p>
          )}
          {found.length > 0 && (
            <ul class="options" aria-label="Areas found">
              {found.map(({ id, name }) => {
                const taken = areas.some(({ area_id }) => area_id === id);
                return (
                  <li key={id}>
                    <button type="button" class="option" aria-pressed={taken} onClick={() => take(id, name)}>
                      <strong>{name}</strong>
                      <span class="small quiet">{taken ? 'Take away' : 'Add'}</span>
                    </button>
                  </li>
                );
              })}
            </ul>
          )}
        </>
      )}
    </div>
  );
}

const KINDS: readonly { kind: string; every: string; group: string }[] = [
  { kind: 'own', every: 'Every own shop', group: 'Own shops' },
  { kind: 'branch', every: 'Every branch', group: 'Branches' },
  { kind: 'depot', every: 'Every depot', group: 'Depots' },
  { kind: 'competitor', every: 'Every competitor', group: 'Competitors' },
];

const METRES = 300;

interface AroundProps {
  areas: readonly Area[];
  change: Props['change'];
}

/** Metres around places. What is chosen is taken at once; its metres can be changed while it is chosen. */
function Around({ areas, change }: AroundProps) {
  const [what, setWhat] = useState('');
  const [metres, setMetres] = useState('');
  const { places } = company.value;
  const isOf = ({ place_id, place_kind }: Area) => what !== '' && (place_id === what || place_kind === what);
  const chosen = areas.find(isOf);
  const choose = (next: string) => {
    const held = areas.find(({ place_id, place_kind }) => place_id === next || place_kind === next);
    setWhat(next);
    setMetres(String(held?.radius_m ?? METRES));
    if (next === '' || held) return;
    const place = places.find(({ id }) => id === next);
    const area = place ? { place_id: place.id, name: place.name } : { place_kind: next };
    change((now) => [...now, { ...area, radius_m: METRES }]);
  };
  if (places.length === 0) return null;
  const kinds = KINDS.filter(({ kind }) => places.some((place) => place.kind === kind));
  return (
    <div class="block">
      <div class="field">
        <label for="where-place">Around</label>
        <select
          id="where-place"
          class="input"
          value={chosen ? what : ''}
          onChange={(event) => choose(event.currentTarget.value)}
        >
          <option value="">Choose a place…</option>
          <optgroup label="All of a kind, as they come and go">
            {kinds.map(({ kind, every }) => (
              <option key={kind} value={kind}>
                {every}
              </option>
            ))}
          </optgroup>
          {kinds.map(({ kind, group }) => (
            <optgroup key={kind} label={group}>
              {places
                .filter((place) => place.kind === kind && place.location)
                .map(({ id, name }) => (
                  <option key={id} value={id}>
                    {name}
                  </option>
                ))}
            </optgroup>
          ))}
        </select>
      </div>
      {chosen && (
        <TextField
          id="where-metres"
          label={`Metres around ${onePlace({ ...chosen, radius_m: null })}`}
          of="/metres"
          faults={isRadius(chosen.radius_m) ? [] : [{ pointer: '/metres', detail: RADIUS }]}
          inputMode="decimal"
          value={metres}
          change={(text) => {
            const radius_m = text.trim() === '' ? 0 : Number(text);
            setMetres(text);
            // What is no number is kept as none, which the form does not save.
            change((now) =>
              now.map((area) => (isOf(area) ? { ...area, radius_m: isRadius(radius_m) ? radius_m : 0 } : area)),
            );
          }}
        />
      )}
    </div>
  );
}

function FenceChoice({ add }: { add: (area: Area) => void }) {
  const { rows } = fences.value;
  const tags = [...new Set(rows.map(({ tag }) => tag))].sort();
  return (
    <div class="field">
      <label for="where-fence">Fences</label>
      <select
        id="where-fence"
        class="input"
        value=""
        onChange={(event) => {
          const [kind, name = ''] = event.currentTarget.value.split(' ');
          const fence = rows.find(({ id }) => id === name);
          if (kind === 'tag') add({ geofence_tag: name });
          else if (fence) {
            const geofence = `${fence.tag}/${fence.external_id}`;
            add({ geofence, name: fence.name ?? geofence });
          }
          event.currentTarget.value = '';
        }}
      >
        <option value="">Choose a fence…</option>
        <optgroup label="All of a tag, as they come and go">
          {tags.map((tag) => (
            <option key={tag} value={`tag ${tag}`}>
              {tag}
            </option>
          ))}
        </optgroup>
        <optgroup label="One fence">
          {rows.map((fence) => (
            <option key={fence.id} value={`fence ${fence.id}`}>
              {fence.name ?? `${fence.tag}/${fence.external_id}`}
            </option>
          ))}
        </optgroup>
      </select>
    </div>
  );
}
