// "The space": moves, marks and names the points. It computes nothing and reads nothing from outside.
for (const box of document.querySelectorAll("[data-space]")) {
  const facts = JSON.parse(box.querySelector("script").textContent);
  const marks = [...box.querySelector("svg").querySelectorAll(":scope > use")];
  const slider = box.querySelector("#space-round"), stepper = box.querySelector("#space-image");
  const choice = box.querySelector("#space-plane"), tip = box.querySelector("[data-tip]");
  const tile = Number(box.dataset.tile), across = Number(box.dataset.across), size = 96;
  const after = () => facts.rounds[Number(slider.value) - 1];
  const told = (at) => {
    if (facts.people[at] >= 0) return `${facts.classes[facts.people[at]]}, labelled by people`;
    const round = after();
    if (!round || round.label[at] < 0) return "not labelled";
    const what = round.accepted[at] ? "accepted" : "not accepted";
    return `${facts.classes[round.label[at]]} ${round.confidence[at].toFixed(3)}, ${what} in round ${round.round}`;
  };
  const draw = () => {
    const round = after();
    marks.forEach((mark, at) => {
      const person = facts.people[at] >= 0, accepted = !person && round && round.accepted[at];
      const kind = person ? "person" : accepted ? "taught" : "left";
      const label = person ? facts.people[at] : accepted ? round.label[at] : -1;
      mark.setAttribute("href", `#mark-${kind}`);
      mark.setAttribute("class", `${kind} ${label < 0 ? "none" : facts.colours[label]}`);
    });
    const name = round ? `round ${round.round}` : "the people alone";
    box.querySelector("[data-round]").textContent = name;
    slider.setAttribute("aria-valuetext", name);
  };
  const show = (at) => {
    tip.hidden = false;
    marks.forEach((mark, index) => mark.classList.toggle("chosen", index === at));
    const text = `${told(at)}: ${facts.names[at]}`;
    tip.querySelector("[data-told]").textContent = text;
    stepper.setAttribute("aria-valuetext", text);
    const picture = tip.querySelector("[data-picture]");
    if (!picture) return;
    const scale = size / tile, rows = Math.ceil(marks.length / across);
    picture.style.backgroundSize = `${across * size}px ${rows * size}px`;
    picture.style.backgroundPosition = `${-(at % across) * tile * scale}px ${-Math.floor(at / across) * tile * scale}px`;
  };
  slider.addEventListener("input", () => { draw(); if (!tip.hidden) show(Number(stepper.value)); });
  stepper.addEventListener("input", () => show(Number(stepper.value)));
  if (choice) choice.addEventListener("change", () => facts.planes[choice.selectedIndex].at.forEach(([x, y], at) => {
    marks[at].setAttribute("x", x);
    marks[at].setAttribute("y", y);
  }));
  box.querySelector("svg").addEventListener("pointerover", (event) => {
    const at = marks.indexOf(event.target.closest("use"));
    if (at < 0) return;
    stepper.value = String(at);
    show(at);
  });
  draw();
}
