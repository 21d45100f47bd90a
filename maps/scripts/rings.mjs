// Rings of the atlas as the map can draw them. The atlas lets a ring run over ±180°, from 179.9 on to -179.9, and
// Antarctica's end beside its beginning once around the earth. Drawn as they stand, they would lie across the whole map.

/** The ring with longitudes that go on beyond ±180° in place of leaping back, with its middle between them. */
function steady(ring) {
  const points = [];
  let turned = 0;
  for (const [i, [lon, lat]] of ring.entries()) {
    const leap = i === 0 ? 0 : lon - ring[i - 1][0];
    if (Math.abs(leap) > 180) turned -= Math.sign(leap) * 360;
    points.push([lon + turned, lat]);
  }
  const lons = points.map(([lon]) => lon);
  const shift = 360 * Math.round((Math.min(...lons) + Math.max(...lons)) / 720);
  return shift === 0 ? points : points.map(([lon, lat]) => [lon - shift, lat]);
}

/** A ring that ends a turn of the earth from where it began, closed over the pole that it goes around. */
function closed(ring) {
  const [first, last] = [ring[0], ring.at(-1)];
  if (Math.abs(last[0] - first[0]) < 180) return ring;
  const pole = first[1] < 0 ? -90 : 90;
  return [...ring, [last[0], pole], [first[0], pole], first];
}

/** Whether a ring has more of the earth in it than a pole. */
const isWide = (ring) => ring.some(([, lat]) => Math.abs(lat) < 89.99);

/** The polygons of a geometry, each ring without a leap over ±180°. */
export function polygonsOf(geometry) {
  const polygons = geometry.type === 'Polygon' ? [geometry.coordinates] : geometry.coordinates;
  return polygons
    .map((rings) => rings.filter(isWide).map((ring) => closed(steady(ring))))
    .filter((rings) => rings.length > 0);
}

/** A longitude from -180 to 180. */
const wrapped = (lon) => ((((lon + 180) % 360) + 360) % 360) - 180;

/** A point well inside the largest ring: the middle of the widest of some horizontal cuts. */
export function labelPoint(geometry) {
  const polygons = polygonsOf(geometry);
  let best = null;
  for (const [ring] of polygons) {
    const area = Math.abs(
      ring.reduce((sum, [x, y], i) => {
        const [nextX, nextY] = ring[(i + 1) % ring.length];
        return sum + x * nextY - nextX * y;
      }, 0) / 2,
    );
    if (!best || area > best.area) best = { ring, area };
  }
  const ys = best.ring.map((p) => p[1]);
  const [south, north] = [Math.min(...ys), Math.max(...ys)];
  let widest = { width: -1, point: best.ring[0] };
  for (let step = 3; step <= 7; step++) {
    const y = south + ((north - south) * step) / 10;
    const crossings = [];
    for (let i = 0; i < best.ring.length - 1; i++) {
      const [x1, y1] = best.ring[i];
      const [x2, y2] = best.ring[i + 1];
      if (y1 > y !== y2 > y) crossings.push(x1 + ((y - y1) / (y2 - y1)) * (x2 - x1));
    }
    crossings.sort((a, b) => a - b);
    for (let i = 0; i + 1 < crossings.length; i += 2) {
      const width = crossings[i + 1] - crossings[i];
      if (width > widest.width) widest = { width, point: [(crossings[i] + crossings[i + 1]) / 2, y] };
    }
  }
  const [lon, lat] = widest.point;
  return { point: [wrapped(lon), lat].map((c) => Number(c.toFixed(2))), area: Number(best.area.toFixed(1)) };
}
