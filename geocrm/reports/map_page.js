"use strict";
/* Draws a map page. Every text of the data reaches the page as a text node, never as markup. */

function geocrmCard(parts) {
  const card = document.createElement("div");
  card.className = "card";
  for (const [tag, content] of parts) {
    if (content) {
      const line = document.createElement(tag);
      line.textContent = content;
      card.appendChild(line);
    }
  }
  return card;
}

function geocrmBackground(map, features) {
  L.geoJSON(features, {
    interactive: false,
    style: (feature) =>
      feature.properties.line
        ? { color: "#b9c2ca", weight: feature.properties.line, fill: false }
        : { color: "#9aa5af", weight: 1, fillColor: "#f7f5f0", fillOpacity: 1 },
  }).addTo(map);
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
      layer.bindPopup(() =>
        geocrmCard([
          ["b", said.name],
          ["span", said.owner],
          ["span", said.sites === null ? "" : `${said.sites} sites on this map`],
        ]),
      );
    },
  }).addTo(map);
  const pane = map.createPane("names"); // above the areas, below the clusters
  pane.style.zIndex = 590;
  pane.style.pointerEvents = "none";
  const names = areas.features.map((feature) => {
    const name = document.createElement("span");
    name.textContent = feature.properties.name;
    const look = { pane: "names", permanent: true, direction: "center", className: "area-name", interactive: false };
    return L.tooltip(look).setLatLng(feature.properties.label).setContent(name).addTo(map);
  });
  const declutter = () => {
    const taken = [...map.getContainer().querySelectorAll(".cluster")].map((icon) => icon.getBoundingClientRect());
    for (const name of names) {
      const element = name.getElement();
      element.style.visibility = "visible";
      const box = element.getBoundingClientRect();
      const free = taken.every(
        (other) =>
          box.right + 4 < other.left || other.right + 4 < box.left || box.bottom < other.top || other.bottom < box.top,
      );
      if (free) {
        taken.push(box);
      } else {
        element.style.visibility = "hidden";
      }
    }
  };
  let waiting = 0;
  const later = () => {
    clearTimeout(waiting);
    waiting = setTimeout(declutter, 300); // clusters have come to rest by then
  };
  map.on("zoomend moveend", later);
  new MutationObserver(later).observe(map.getPane("markerPane"), { childList: true });
}

function geocrmSites(map, stages, rows) {
  const cluster = L.markerClusterGroup({
    maxClusterRadius: 56,
    chunkedLoading: true,
    showCoverageOnHover: false,
    disableClusteringAtZoom: 17,
    iconCreateFunction: (group) => {
      const n = group.getChildCount();
      const size = n < 10 ? 26 : n < 100 ? 32 : n < 1000 ? 40 : 50;
      return L.divIcon({ html: String(n), className: "cluster", iconSize: [size, size] });
    },
  });
  let circle = null;
  const markers = rows.map(([lon, lat, stageName, id, name, town, owner, territory, precision, metres]) => {
    const [colour, stage, filled] = stages[stageName] || stages.active;
    const marker = L.circleMarker([lat, lon], {
      radius: 6,
      weight: 2.5,
      color: colour,
      fillColor: filled ? colour : "#fff",
      fillOpacity: filled ? 0.8 : 0.9,
    });
    marker.bindPopup(() => {
      const far = metres >= 1000 ? `${Number((metres / 1000).toPrecision(2))} km` : `${Math.round(metres)} m`;
      return geocrmCard([
        ["b", name],
        ["span", stage + (town ? `, ${town}` : "")],
        ["span", owner && `Owner: ${owner}`],
        ["span", territory && `Territory: ${territory}`],
        ["span", `Place: ${precision || "given"}, within ${far}`],
        ["span", id],
      ]);
    });
    marker.on("popupopen", () => {
      if (metres >= 100) {
        const look = { radius: metres, color: colour, weight: 1, dashArray: "4 4", fillOpacity: 0.06 };
        circle = L.circle([lat, lon], { ...look, interactive: false }).addTo(map);
      }
    });
    marker.on("popupclose", () => {
      if (circle) {
        circle.remove();
        circle = null;
      }
    });
    return marker;
  });
  cluster.addLayers(markers);
  map.addLayer(cluster);
}

if (window.innerWidth < 600) {
  document.addEventListener("DOMContentLoaded", () => {
    document.querySelector("details.legend").open = false;
  });
}
