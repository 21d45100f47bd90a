import { describe, expect, it } from 'vitest';
import { orientation, spotWords } from './towns';

const DENVER = { name: 'Denver', lon: -105, lat: 39.75 };
const TAVEUNI = { name: 'Taveuni', lon: 179.95, lat: 0 };
const around = (lon: number, lat: number, half = 0.01) => [lon - half, lat - half, lon + half, lat + half] as const;

describe('the town by which one knows where one is', () => {
  it('is the nearest, with how far the point is and where it lies as the town sees it', () => {
    const south = orientation([TAVEUNI, DENVER], around(-105, 39.65), { lon: -105, lat: 39.65 });
    expect(south?.name).toBe('Denver');
    // a tenth of a degree along a meridian
    expect(south?.distance_m).toBeCloseTo((6_371_008.8 * Math.PI) / 1800, 0);
    expect(south?.bearing_deg).toBeCloseTo(180, 6);
    const west = orientation([DENVER], around(-105.1, 39.75), { lon: -105.1, lat: 39.75 });
    expect(west?.bearing_deg).toBeCloseTo(270, 0);
  });

  it('may lie beyond the line of the date', () => {
    const east = orientation([DENVER, TAVEUNI], around(-179.95, 0), { lon: -179.95, lat: 0 });
    expect(east?.name).toBe('Taveuni');
    expect(east?.distance_m).toBeCloseTo((6_371_008.8 * Math.PI) / 1800, 0);
    expect(east?.bearing_deg).toBeCloseTo(90, 6);
  });

  it('is not told where a name stands in the view, nor where no town is known', () => {
    expect(orientation([DENVER], around(-105, 39.65, 0.2), { lon: -105, lat: 39.65 })).toBeNull();
    expect(orientation([], around(-105, 39.65), { lon: -105, lat: 39.65 })).toBeNull();
  });
});

it('says where a point is by what is nearest', () => {
  expect(spotWords([TAVEUNI, DENVER], { lon: -105, lat: 39.85 })).toBe('11 km north of Denver');
  expect(spotWords([DENVER], { lon: -105, lat: 39.7503 })).toBe('At Denver');
  expect(spotWords([], { lon: -105, lat: 39.75 })).toBeNull();
});
