"use strict";
/* Draws a map page. Every text of the data reaches the page as a text node, never as markup. */

const geocrmDark = window.matchMedia("screen and (prefers-color-scheme: dark)");

/** The colour that the style sheet gives a name, light or dark. */
function geocrmColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function geocrmLine(tag, content) {
  const line = document.createElement(tag);
  line.textContent = content;
  return line;
}

function geocrmCard(parts) {
  const card = document.createElement("div");
  card.className = "card";
  card.append(...parts.filter(([, content]) => content).map(([tag, content]) => geocrmLine(tag, content)));
  return card;
}

/** The mark of a stage: its shape in its colour. */
function geocrmMark(colour, outline) {
  const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  picture.setAttribute("viewBox", "-1.3 -1.3 2.6 2.6");
  picture.setAttribute("class", "mark");
  const path = document.createElementNS(picture.namespaceURI, "path");
  path.setAttribute("fill", colour);
  path.setAttribute("d", outline);
  picture.append(path);
  return picture;
}

function geocrmBackground(map, features) {
  const look = (feature) =>
    feature.properties.line
      ? { color: geocrmColour("border"), weight: feature.properties.line, fill: false }
      : { color: geocrmColour("coast"), weight: 1, fillColor: geocrmColour("land"), fillOpacity: 1 };
  const land = L.geoJSON(features, { interactive: false, style: look }).addTo(map);
  geocrmDark.addEventListener("change", () => land.setStyle(look));
}

function geocrmAreas(map, areas) {
  L.geoJSON(areas, {
    style: (feature) => ({
      color: feature.properties.colour,
      weight: 2,
      fillColor: feature.properties.colour,
      fillOpacity: 0.16,
    }),
    onEachFeature: (feature, layer) => {
      const said = feature.properties;
      const sites = said.sites === 1 ? "1 site on this map" : `${said.sites?.toLocaleString("en")} sites on this map`;
      layer.bindPopup(() =>
        geocrmCard([
          ["b", said.name],
          ["span", said.owner],
          ["span", said.sites === null ? "" : sites],
        ]),
      );
    },
  }).addTo(map);
  const pane = map.createPane("names"); // above areas and clusters, which they leave free where they can
  pane.style.zIndex = 610;
  pane.style.pointerEvents = "none";
  const names = areas.features.map((feature) => {
    const look = { pane: "names", permanent: true, direction: "center", className: "area-name", interactive: false };
    const [at] = feature.properties.labels;
    return L.tooltip(look).setLatLng(at).setContent(geocrmLine("span", feature.properties.name)).addTo(map);
  });
  map.on("sitesdrawn", () => {
    const frame = map.getContainer().getBoundingClientRect();
    const marks = [...map.getContainer().querySelectorAll(".cluster, .site")];
    const taken = marks.map((icon) => icon.getBoundingClientRect());
    const few = names.length <= 12; // of few areas every name is shown, over the clusters where nothing is free
    names.forEach((name, number) => {
      const element = name.getElement();
      const { labels } = areas.features[number].properties;
      const [width, height] = [element.offsetWidth, element.offsetHeight];
      const boxOf = (place) => {
        const { x, y } = map.latLngToContainerPoint(place);
        return new DOMRect(frame.left + x - width / 2, frame.top + y - height / 2, width, height);
      };
      const free = (box) =>
        box.left >= frame.left && box.right <= frame.right && box.top >= frame.top && box.bottom <= frame.bottom &&
        taken.every(
          (other) =>
            box.right + 4 < other.left || other.right + 4 < box.left || box.bottom < other.top || other.bottom < box.top,
        );
      const at = labels.find((place) => free(boxOf(place)));
      name.setLatLng(at ?? labels[0]);
      element.classList.toggle("over", at === undefined);
      element.style.visibility = at || few ? "visible" : "hidden";
      if (at || few) {
        taken.push(boxOf(at ?? labels[0]));
      }
    });
  });
}

/** The view on these bounds: beside the legend where there is room for both. */
function geocrmFit(map, bounds) {
  const legend = document.querySelector("details.legend");
  if (window.innerWidth < 600) {
    legend.open = false;
  }
  const beside = legend.open && window.innerWidth >= 900 ? legend.offsetWidth + 10 : 0;
  map.fitBounds(bounds, { paddingTopLeft: [24 + beside, 24], paddingBottomRight: [24, 24], maxZoom: 14 });
}

/**
 * The sites of the page's data as clusters and single points. Once the page shows its outlines they are read and
 * clustered whole, so that every number is right from its first moment on; each zoom is clustered once.
 */
function geocrmSites(map, stages) {
  map.zoomControl.getContainer().setAttribute("aria-label", "Zoom");
  requestAnimationFrame(() =>
    setTimeout(() => {
      geocrmDraw(map, stages, JSON.parse(document.getElementById("sites").textContent));
      document.querySelector("main").setAttribute("aria-busy", "false");
      document.querySelector(".loading").remove();
    }),
  );
}

/** Column-wise data → which cluster each site is in, and each cluster's place and number of sites. */
function geocrmClusters(x, y, zoom) {
  const apart = zoom < 17 ? 56 : 14; // pixels between two clusters
  const scale = (256 * 2 ** zoom) / (apart / 2); // cells of half that size
  const reach = (apart / 256 / 2 ** zoom) ** 2;
  const cells = new Map();
  const cellOf = new Int32Array(x.length);
  const [count, sumX, sumY, column, row] = [[], [], [], [], []];
  for (let site = 0; site < x.length; site++) {
    const [cx, cy] = [Math.floor(x[site] * scale), Math.floor(y[site] * scale)];
    const key = cx * 2 ** 26 + cy;
    let cell = cells.get(key);
    if (cell === undefined) {
      cell = count.push(0) - 1;
      cells.set(key, cell);
      sumX.push(0);
      sumY.push(0);
      column.push(cx);
      row.push(cy);
    }
    cellOf[site] = cell;
    count[cell] += 1;
    sumX[cell] += x[site];
    sumY[cell] += y[site];
  }
  const middleX = sumX.map((sum, cell) => sum / count[cell]);
  const middleY = sumY.map((sum, cell) => sum / count[cell]);
  // the fullest cell first takes its neighbours in; it stays where it is, so that no two clusters touch
  const order = count.map((_, cell) => cell).sort((a, b) => count[b] - count[a] || a - b);
  const clusterOf = new Int32Array(count.length).fill(-1);
  const clusters = [];
  for (const seed of order) {
    if (clusterOf[seed] >= 0) {
      continue;
    }
    const cluster = { x: middleX[seed], y: middleY[seed], sites: 0 };
    for (let dx = -2; dx <= 2; dx++) {
      for (let dy = -2; dy <= 2; dy++) {
        const near = cells.get((column[seed] + dx) * 2 ** 26 + row[seed] + dy);
        if (near === undefined || clusterOf[near] >= 0) {
          continue;
        }
        if ((middleX[near] - cluster.x) ** 2 + (middleY[near] - cluster.y) ** 2 < reach) {
          clusterOf[near] = clusters.length;
          cluster.sites += count[near];
        }
      }
    }
    clusters.push(cluster);
  }
  return { clusters, of: cellOf.map((cell) => clusterOf[cell]) };
}

function geocrmDraw(map, stages, data) {
  const { crs } = map.options;
  const world = 256; // pixels at zoom 0
  const place = (site) => L.latLng(data.lat[site] / 1e5, data.lon[site] / 1e5);
  const x = new Float64Array(data.id.length);
  const y = new Float64Array(data.id.length);
  for (let site = 0; site < x.length; site++) {
    const point = crs.latLngToPoint(place(site), 0);
    x[site] = point.x / world;
    y[site] = point.y / world;
  }
  const zooms = new Map();
  const at = (zoom) => {
    if (!zooms.has(zoom)) {
      zooms.set(zoom, geocrmClusters(x, y, zoom));
    }
    return zooms.get(zoom);
  };
  const membersOf = (zoom, cluster) => {
    const { of } = at(zoom);
    const members = [];
    of.forEach((its, site) => {
      if (its === cluster) {
        members.push(site);
      }
    });
    return members;
  };

  const card = (site) => {
    const word = (column) => data.words[column][data[column][site]];
    const metres = data.metres[site];
    const far = metres >= 1000 ? `${Number((metres / 1000).toPrecision(2))} km` : `${Math.round(metres)} m`;
    return geocrmCard([
      ["b", data.name[site]],
      ["span", word("stage") + (word("town") ? `, ${word("town")}` : "")],
      ["span", word("owner") && `Owner: ${word("owner")}`],
      ["span", word("territory") && `Territory: ${word("territory")}`],
      ["span", `Place: ${word("precision") || "given"}, within ${far}`],
      ["span", `cus_${data.id[site]}`],
    ]);
  };
  const markOf = (site) => stages[data.words.stage[data.stage[site]]];
  let circle = null;
  const within = (site) => {
    circle?.remove();
    if (data.metres[site] >= 100) {
      const look = { color: markOf(site)[0], weight: 1.5, dashArray: "4 4", fillOpacity: 0.06, interactive: false };
      circle = L.circle(place(site), { ...look, radius: data.metres[site] }).addTo(map);
    }
  };
  map.on("popupclose", () => circle?.remove());

  /** Sites too close to be told apart: their names, each of which opens its card. */
  const list = (where, members) => {
    const popup = L.popup({ maxHeight: 240 }).setLatLng(where);
    const names = geocrmCard([["b", `${members.length.toLocaleString("en")} sites here`]]);
    for (const site of members.slice(0, 200)) {
      const name = geocrmLine("button", data.name[site]);
      name.type = "button";
      name.addEventListener("click", (event) => {
        L.DomEvent.stopPropagation(event); // else the popup, whose button is gone, takes it for a click on the map
        popup.setContent(card(site));
        within(site);
      });
      names.append(name);
    }
    if (members.length > 200) {
      names.append(geocrmLine("span", `and ${(members.length - 200).toLocaleString("en")} more`));
    }
    popup.setContent(names).openOn(map);
  };
  const look = (zoom, cluster, where) => {
    const members = membersOf(zoom, cluster);
    const bounds = L.latLngBounds(members.map(place));
    const closer = Math.min(Math.max(map.getBoundsZoom(bounds, false, L.point(80, 80)), map.getZoom() + 1), 19);
    if (map.getZoom() >= 19 || bounds.getNorthEast().equals(bounds.getSouthWest(), 1e-4)) {
      list(where, members);
    } else {
      map.setView(bounds.getCenter(), closer);
    }
  };

  const group = L.layerGroup().addTo(map);
  let drawn = new Map();
  const point = (zoom, cluster) => {
    const site = at(zoom).of.indexOf(cluster);
    const icon = L.divIcon({ html: geocrmMark(...markOf(site)), className: "site", iconSize: [24, 24] });
    const marker = L.marker(place(site), { icon, title: data.name[site] });
    return marker.bindPopup(() => card(site)).on("popupopen", () => within(site));
  };
  const badge = (zoom, cluster, where, sites) => {
    const size = sites < 10 ? 26 : sites < 100 ? 32 : sites < 1000 ? 40 : 50;
    const number = sites.toLocaleString("en");
    const icon = L.divIcon({ html: number, className: "cluster", iconSize: [size, size] });
    return L.marker(where, { icon, title: `${number} sites` }).on("click", () => look(zoom, cluster, where));
  };
  const draw = () => {
    const zoom = map.getZoom();
    const view = map.getBounds().pad(0.2);
    const next = new Map();
    at(zoom).clusters.forEach((cluster, number) => {
      const where = crs.pointToLatLng(L.point(cluster.x * world, cluster.y * world), 0);
      if (view.contains(where)) {
        const key = `${zoom} ${number}`;
        const known = drawn.get(key);
        next.set(key, known ?? (cluster.sites === 1 ? point(zoom, number) : badge(zoom, number, where, cluster.sites)));
      }
    });
    for (const [key, layer] of drawn) {
      if (!next.has(key)) {
        group.removeLayer(layer);
      }
    }
    for (const layer of next.values()) {
      group.addLayer(layer);
    }
    drawn = next;
    map.fire("sitesdrawn");
  };
  draw();
  map.on("moveend", draw);
  geocrmDark.addEventListener("change", () => {
    group.clearLayers();
    drawn = new Map();
    draw();
  });
}
