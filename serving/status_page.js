"use strict";
const MOST = 60, seen = new Map();

function draw() {
  for (const svg of document.querySelectorAll("svg.spark")) {
    const values = seen.get(svg.dataset.key) || [];
    if (svg.dataset.value) values.push(Number(svg.dataset.value));
    seen.set(svg.dataset.key, values.slice(-MOST));
    const top = Math.max(...values, 0) || 1;
    const points = values.slice(-MOST).map((value, index) => `${2 * index},${20 - 18 * value / top}`).join(" ");
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    line.setAttribute("class", "trace");
    line.setAttribute("points", points);
    svg.replaceChildren(line);
  }
}

async function look() {
  const said = document.getElementById("said");
  try {
    const answer = await fetch("status");
    if (!answer.ok) throw new Error(`${answer.status}`);
    document.getElementById("live").innerHTML = await answer.text();
    said.textContent = "";
    draw();
  } catch (error) {
    said.textContent = `The server does not answer (${error.message}); this is what it said last.`;
  }
  setTimeout(look, 2000);
}

async function ask(event) {
  event.preventDefault();
  const form = event.target, shown = form.querySelector("pre"), began = performance.now();
  try {
    const answer = await fetch(form.dataset.to, {method: "POST", body: form.querySelector("textarea").value});
    const text = await answer.text();
    shown.textContent = `${answer.status}, ${(performance.now() - began).toFixed(1)} ms\n${text.slice(0, 20000)}`;
  } catch (error) {
    shown.textContent = error.message;
  }
}

for (const form of document.querySelectorAll("form")) form.addEventListener("submit", ask);
draw();
if (document.body.dataset.live) setTimeout(look, 2000);
