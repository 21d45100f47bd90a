/** Menu, panel and map: the frame that everything stands in, on a desk and on a phone. */

import { useEffect, useRef, useState } from 'preact/hooks';
import { Icon, type IconName } from '../design/icons';
import { DevelopersPanel } from '../developers/panel';
import { OffersPanel } from '../offers/panel';
import { SegmentsPanel } from '../segments/panel';
import type { Panel } from '../state/model';
import { covered, isPhone, map, opener, type SheetHeight, sheet } from '../state/screen';
import { customer, panel, show, state } from '../state/store';
import { AccountPanel } from './account_panel';
import { Card } from './card';
import { HerePanel } from './here_panel';
import { KeyPanel } from './key_panel';
import { MapView } from './map_view';
import { NearPanel } from './near_panel';
import { SearchPanel } from './search_panel';
import './workspace.css';

const MENU: readonly { panel: Panel; icon: IconName; name: string; title: string }[] = [
  { panel: 'key', icon: 'key', name: 'Map', title: 'Colours and filters' },
  { panel: 'near', icon: 'near', name: 'Near me', title: 'Near me' },
  { panel: 'here', icon: 'here', name: 'Territory', title: 'Whose territory is here?' },
  { panel: 'segments', icon: 'segments', name: 'Segments', title: 'Segments' },
  { panel: 'offers', icon: 'offers', name: 'Offers', title: 'Offers' },
  { panel: 'account', icon: 'account', name: 'You', title: 'You' },
];

const TITLES: Readonly<Record<Panel, string>> = {
  ...(Object.fromEntries(MENU.map((item) => [item.panel, item.title])) as Record<Panel, string>),
  search: 'Search',
  developers: 'Developers',
};

/** Pixels at the top of a phone's map that the search box covers. */
const SEARCH_HEIGHT = 60;

const HEIGHTS: readonly SheetHeight[] = ['peek', 'half', 'full'];

function SearchBox() {
  const [text, setText] = useState(state.value.query);
  const typed = useRef(0);
  const field = useRef<HTMLInputElement>(null);
  // Back and forward change the query without typing.
  useEffect(() => setText(state.value.query), [state.value.query]);
  const search = (query: string) => {
    if (query.trim() === '' && panel.value !== 'search') return;
    show({ query, panel: 'search', customer: null }, panel.value === 'search' ? 'quiet' : 'step');
    if (sheet.value === 'peek') sheet.value = 'half';
  };
  const clear = () => {
    window.clearTimeout(typed.current);
    setText('');
    show({ query: '', panel: panel.value === 'search' ? null : panel.value });
    field.current?.focus();
  };
  return (
    <search class="search-box">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          window.clearTimeout(typed.current);
          search(text);
        }}
      >
        <label class="hidden-visually" for="search">
          Search customers
        </label>
        <Icon name="search" />
        <input
          id="search"
          ref={field}
          type="search"
          placeholder="Search customers"
          autocomplete="off"
          value={text}
          onInput={(event) => {
            const value = event.currentTarget.value;
            setText(value);
            window.clearTimeout(typed.current);
            typed.current = window.setTimeout(() => search(value), 250);
          }}
        />
        {text !== '' && (
          <button type="button" class="search-clear" aria-label="Clear the search" onClick={clear}>
            <Icon name="close" />
          </button>
        )}
      </form>
    </search>
  );
}

function Menu({ open }: { open: Panel | null }) {
  return (
    <nav class="menu" aria-label="Main">
      <span class="menu-brand" aria-hidden="true">
        <svg class="brand-mark" viewBox="0 0 48 48" aria-hidden="true">
          <path d="M24 45S40 31.4 40 19A16 16 0 0 0 8 19c0 12.4 16 26 16 26z" />
          <circle cx="24" cy="19" r="6.5" />
        </svg>
      </span>
      <ul>
        {MENU.map((item) => (
          <li key={item.panel}>
            <button
              type="button"
              class="menu-item"
              aria-current={
                open === item.panel || (open === 'developers' && item.panel === 'account') ? 'page' : undefined
              }
              onClick={() => {
                const again = panel.value === item.panel && customer.value === null;
                if (isPhone.value && again) sheet.value = sheet.value === 'peek' ? 'half' : 'peek';
                else {
                  sheet.value = 'half';
                  show({ panel: item.panel, customer: null });
                }
              }}
            >
              <Icon name={item.icon} />
              <span>{item.name}</span>
            </button>
          </li>
        ))}
      </ul>
    </nav>
  );
}

/** The bar on top of the sheet: drag it, or press it to go to the next height. */
function SheetHandle() {
  const start = useRef(0);
  const dragged = useRef(false);
  return (
    <button
      type="button"
      class="sheet-handle"
      aria-label={sheet.value === 'full' ? 'Make the panel smaller' : 'Make the panel larger'}
      onPointerDown={(event) => {
        start.current = event.clientY;
        dragged.current = false;
        event.currentTarget.setPointerCapture(event.pointerId);
      }}
      onPointerUp={(event) => {
        const up = start.current - event.clientY;
        if (Math.abs(up) < 24) return;
        dragged.current = true;
        const index = HEIGHTS.indexOf(sheet.value) + (up > 0 ? 1 : -1);
        sheet.value = HEIGHTS[index] ?? sheet.value;
      }}
      onClick={() => {
        // A drag ends in a click too; it has done its work already.
        if (!dragged.current) sheet.value = sheet.value === 'full' ? 'half' : 'full';
        dragged.current = false;
      }}
    >
      <span />
    </button>
  );
}

function closeCard(): void {
  const from = opener.value;
  opener.value = null;
  show({ customer: null });
  requestAnimationFrame(() => {
    const back = from ? document.getElementById(from) : document.querySelector<HTMLElement>('.maplibregl-canvas');
    back?.focus();
  });
}

export function Workspace() {
  const open = panel.value ?? (isPhone.value ? null : 'key');
  const card = customer.value;
  const Body = {
    key: KeyPanel,
    near: NearPanel,
    here: HerePanel,
    search: SearchPanel,
    segments: SegmentsPanel,
    offers: OffersPanel,
    account: AccountPanel,
    developers: DevelopersPanel,
  };
  const Shown = open ? Body[open] : null;

  // The map keeps what it shows out from under the sheet of a phone.
  const panelFrame = useRef<HTMLElement>(null);
  useEffect(() => {
    const frame = panelFrame.current;
    if (!frame) return;
    const measure = () => {
      const bottom = isPhone.value ? frame.offsetHeight : 0;
      if (map.value) map.value.covered = { top: isPhone.value ? SEARCH_HEIGHT : 0, bottom };
      covered.value = bottom;
      document.documentElement.style.setProperty('--covered', `${bottom}px`);
    };
    const observer = new ResizeObserver(measure);
    observer.observe(frame);
    const stop = map.subscribe(measure);
    return () => {
      observer.disconnect();
      stop();
    };
  }, []);

  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== 'Escape' || event.defaultPrevented) return;
      if (customer.value) closeCard();
      else if (isPhone.value && panel.value) show({ panel: null });
    };
    window.addEventListener('keydown', onKey);
    return () => window.removeEventListener('keydown', onKey);
  }, []);

  return (
    <div class="workspace" data-sheet={open || card ? sheet.value : 'none'}>
      <a class="skip" href="#panel">
        Skip to the panel
      </a>
      <Menu open={open} />
      <SearchBox />
      <main class="panel" id="panel" ref={panelFrame} tabIndex={-1} hidden={!open && !card}>
        <SheetHandle />
        <div class="panel-scroll" hidden={card !== null}>
          <header class="panel-head">
            <h1>{open ? TITLES[open] : ''}</h1>
            <button
              type="button"
              class="icon-button phone-only"
              aria-label="Close the panel"
              onClick={() => show({ panel: null })}
            >
              <Icon name="close" />
            </button>
          </header>
          {Shown && <Shown key={open} />}
        </div>
        {card && (
          <div class="panel-scroll">
            <Card key={card} id={card} close={closeCard} />
          </div>
        )}
      </main>
      <MapView />
    </div>
  );
}
