"use strict";
// "What if?": shows the stored numbers at the slider's cut-off. It computes shares and reads nothing from outside.
for (const box of document.querySelectorAll("[data-what-if]")) {
  const facts = JSON.parse(box.querySelector("script").textContent);
  const slider = box.querySelector("input");
  const percent = (share) => (100 * share).toFixed(1) + " %";
  const put = (name, text) => { box.querySelector(`[data-${name}]`).textContent = text; };
  const show = () => {
    const at = facts.cutoffs.length - 1 - Number(slider.value);
    const accepted = facts.accepted[at], precision = facts.precision[at], low = facts.low[at];
    put("cutoff", facts.cutoffs[at].toFixed(3));
    put("accepted", `${accepted.toLocaleString("en")} (${percent(accepted / facts.pool)})`);
    put("precision", precision === null ? "not measured" : `${percent(precision)} of ${facts.held_out[at]}`);
    put("low", low === null ? "not measured" : percent(low));
    put("wrong", precision === null ? "not known" : Math.round(accepted * (1 - precision)).toLocaleString("en"));
    const most = Math.max(1, ...facts.mix[at]);
    box.querySelectorAll("[data-bar]").forEach((bar, index) => {
      bar.style.width = `${100 * facts.mix[at][index] / most}%`;
      bar.parentElement.nextElementSibling.textContent = facts.mix[at][index].toLocaleString("en");
    });
    slider.setAttribute("aria-valuetext", `threshold ${facts.cutoffs[at].toFixed(3)}, ${accepted} images accepted`);
  };
  slider.addEventListener("input", show);
  slider.value = String(facts.cutoffs.length - 1 - facts.chosen);
  show();
}
