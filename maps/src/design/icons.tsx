/** The icons of the application: own strokes on a grid of 24. Decorative; the text beside them says what they do. */

import { type Mark, OUTLINES } from './palette';

const PATHS = {
  near: 'M12 21s7-6.1 7-11.5A7 7 0 0 0 5 9.5C5 14.9 12 21 12 21z M12 12a2.6 2.6 0 1 0 0-5.2 2.6 2.6 0 0 0 0 5.2z',
  key: 'M12 3 3 8l9 5 9-5-9-5z M3 12l9 5 9-5 M3 16l9 5 9-5',
  here: 'M4 5l5-2 6 2 5-2v16l-5 2-6-2-5 2z M9 3v16 M15 5v16',
  segments: 'M12 12V3a9 9 0 0 1 9 9z M12 12 5.6 18.4A9 9 0 0 1 12 3 M12 12h9a9 9 0 0 1-15.4 6.4',
  offers: 'M3 12V4h8l10 10-8 8z M7.6 9.6a1.6 1.6 0 1 0 0-3.2 1.6 1.6 0 0 0 0 3.2z',
  account: 'M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8z M4 20.5c1.2-4 4.4-5.5 8-5.5s6.8 1.5 8 5.5',
  search: 'M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13z M15.5 15.5 21 21',
  close: 'M5 5l14 14 M19 5 5 19',
  back: 'M20 12H5 M11 5l-7 7 7 7',
  plus: 'M12 5v14 M5 12h14',
  minus: 'M5 12h14',
  locate: 'M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8z M12 2v4 M12 18v4 M2 12h4 M18 12h4',
  phone: 'M5 3h4l2 5-2.5 1.8a12 12 0 0 0 5.7 5.7L16 13l5 2v4c0 1-1 2-2 2C10.7 21 3 13.3 3 5c0-1 1-2 2-2z',
  route: 'M12 2.5 21 20l-9-4-9 4z',
  copy: 'M9 9h11v12H9z M5 15H4V3h11v2',
  mail: 'M3 5h18v14H3z M3 6l9 7 9-7',
  all: 'M4 9V4h5 M15 4h5v5 M20 15v5h-5 M9 20H4v-5',
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

/** An arrow that points where a bearing in degrees goes. */
export function Arrow({ bearing_deg }: { bearing_deg: number }) {
  return (
    <svg class="icon arrow" viewBox="0 0 24 24" aria-hidden="true">
      <path d="M12 20V4 M6 10l6-6 6 6" transform={`rotate(${bearing_deg} 12 12)`} />
    </svg>
  );
}

/** The mark of a class, as on the map. */
export function MarkIcon({ mark }: { mark: Mark }) {
  return (
    <svg class="mark" viewBox="0 0 20 20" aria-hidden="true">
      {mark.shape === 'circle' ? (
        <circle cx="10" cy="10" r="6.6" fill={mark.colour} />
      ) : (
        <polygon
          points={OUTLINES[mark.shape].map(([x, y]) => `${10 + x * 7.2},${10 + y * 7.2}`).join(' ')}
          fill={mark.colour}
        />
      )}
    </svg>
  );
}
