/** Fences: the list, and whichever of them is open. */

import { useEffect, useMemo, useState } from 'preact/hooks';
import * as routes from '../api/routes';
import type { Fence } from '../api/shapes';
import { Empty, Failed, Loading } from '../components/states';
import { Icon } from '../design/icons';
import { count } from '../format';
import { boxOfShapes } from '../map/sketch';
import { may } from '../segments/state';
import { aimed, map } from '../state/screen';
import { FenceForm } from './fence_form';
import {
  drawnFences,
  drawnKey,
  fences,
  loadFences,
  NOTHING_ON,
  open,
  stamp,
  useFencesInView,
  useSketch,
} from './state';
import { fenceWords } from './words';

type Edited = { readonly fence: Fence | null };

export function FencesPanel() {
  const [edited, setEdited] = useState<Edited | null>(null);
  const [said, setSaid] = useState('');
  useEffect(() => void loadFences(), [stamp.value]);
  const back = (news: string) => {
    setSaid(news);
    setEdited(null);
  };
  const { status, rows, problem } = fences.value;
  useEffect(() => {
    if (aimed.value || status !== 'ready') return;
    const box = boxOfShapes(rows.slice(0, 200).map(({ geometry }) => geometry as unknown as GeoJSON.Polygon));
    if (box) map.value?.fit(box);
  }, [status, map.value]);
  if (status === 'failed' && problem) return <Failed problem={problem} again={() => void loadFences(true)} />;
  if (status === 'loading') return <Loading what="fences" lines={5} />;
  if (edited) return <FenceForm key={edited.fence?.id ?? 'new'} fence={edited.fence} done={back} />;
  return (
    <List
      rows={rows}
      said={said}
      edit={(fence) => {
        setSaid('');
        setEdited({ fence });
      }}
    />
  );
}

/** So many rows are listed before a name has to be typed. */
const LISTED = 50;

interface ListProps {
  rows: readonly Fence[];
  said: string;
  edit: (fence: Fence | null) => void;
}

function List({ rows, said, edit }: ListProps) {
  const [text, setText] = useState('');
  const parts = useMemo(() => drawnFences(rows, NOTHING_ON), [rows, drawnKey(rows)]);
  useFencesInView();
  useSketch({ parts, moving: [], layers: [], alone: true });
  const writes = may('geofences:write');
  const sought = text.trim().toLowerCase();
  const called = (fence: Fence) => `${fence.name ?? ''} ${fence.tag}/${fence.external_id}`.toLowerCase();
  const found = sought === '' ? rows : rows.filter((fence) => called(fence).includes(sought));
  return (
    <section class="block" aria-labelledby="offers-title">
      <h2 id="offers-title" class="large" tabIndex={-1}>
        Fences
      </h2>
      <p class="small quiet">
        Where a phone enters one, stays in it or leaves it, your app and your webhooks are told. An offer can hold in
        them.
      </p>
      {!writes && <p class="small">Your role looks at them; an administrator or a marketer draws and imports them.</p>}
      <div class="row-actions">
        {writes && (
          <button type="button" class="button primary" onClick={() => edit(null)}>
            <Icon name="plus" />
            New fence
          </button>
        )}
        {writes && (
          <button type="button" id="open-import" class="button" onClick={() => open('import')}>
            Import fences
          </button>
        )}
        <button type="button" class="button" onClick={() => open('walk')}>
          Try a walk
        </button>
      </div>
      <p role="status" class={said === '' ? 'hidden-visually' : 'small'}>
        {said}
      </p>
      {rows.length === 0 && (
        <Empty title="No fences yet">{writes && <p>A circle around a shop is a good first one.</p>}</Empty>
      )}
      {rows.length > LISTED && (
        <div class="field">
          <label for="fence-search">
            {rows.length < routes.MOST_FENCES
              ? `Find among ${count(rows.length)}`
              : `Find among the first ${count(routes.MOST_FENCES)}, and those that the map has shown`}
          </label>
          <input
            id="fence-search"
            class="input"
            type="search"
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </div>
      )}
      <ul class="segmentations" aria-label="Fences">
        {found.slice(0, LISTED).map((fence) => (
          <li key={fence.id}>
            <button type="button" class="segmentation" onClick={() => edit(fence)}>
              <strong>{fence.name ?? fence.external_id}</strong>
              <span class="badge">{fence.tag}</span>
              <span class="small quiet">{fenceWords(fence)}</span>
            </button>
          </li>
        ))}
      </ul>
      {found.length > LISTED && <p class="small quiet">{`and ${count(found.length - LISTED)} more`}</p>}
    </section>
  );
}
