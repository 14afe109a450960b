// Narrow the page to a kind of prompt, to right or wrong rollouts, to a text.
const kind = document.getElementById("kind");
const reward = document.getElementById("reward");
const search = document.getElementById("search");
const articles = [...document.querySelectorAll("article")];

for (const name of new Set([...document.querySelectorAll("[data-kind]")].map(g => g.dataset.kind))) {
  kind.append(new Option(name, name));
}

function narrow() {
  const words = search.value.toLowerCase();
  let shown = 0;
  for (const article of articles) {
    let some = false;
    for (const group of article.querySelectorAll("[data-kind]")) {
      let right = !reward.value;
      for (const rollout of group.querySelectorAll("[data-reward]")) {
        rollout.hidden = reward.value !== "" && rollout.dataset.reward !== reward.value;
        right ||= !rollout.hidden;
      }
      group.hidden = !right || (kind.value !== "" && group.dataset.kind !== kind.value);
      some ||= !group.hidden;
    }
    article.hidden = !some || !article.textContent.toLowerCase().includes(words);
    shown += !article.hidden;
  }
  document.getElementById("count").textContent = `${shown} questions`;
}

for (const control of [kind, reward, search]) control.addEventListener("input", narrow);
document.querySelector("form").addEventListener("submit", event => event.preventDefault());

const unfold = document.getElementById("unfold");
unfold.addEventListener("click", () => {
  const open = unfold.textContent === "Open all";
  for (const part of document.querySelectorAll("details")) part.open = open;
  unfold.textContent = open ? "Close all" : "Open all";
});
