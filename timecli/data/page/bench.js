// What has no value stands last, whatever the direction.
const compare = (one, other, sign) => {
  if (one === "" || other === "") return (one === "") - (other === "");
  const numbers = [Number(one), Number(other)];
  return sign * (numbers.some(Number.isNaN) ? one.localeCompare(other) : numbers[0] - numbers[1]);
};
const sort = (head) => {
  const down = head.getAttribute("aria-sort") === "descending" ? "ascending" : "descending";
  for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down);
  const body = head.closest("table").tBodies[0];
  const value = (row) => row.cells[head.cellIndex].dataset.value;
  const rows = [...body.rows].sort((a, b) => compare(value(a), value(b), down === "descending" ? -1 : 1));
  body.append(...rows);
};
for (const button of all(document, ".sorts thead button")) {
  button.addEventListener("click", () => sort(button.parentElement));
}
