"""The path of a mix as a picture: shares of the domains, stacked, over the steps of a run.

    picture.py LOG OUT.svg

LOG is what bytelm writes (`--log`). Plain SVG that reads on light and dark pages.
"""
import sys

import table

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 720, 300, 44, 16, 130, 34
COLOURS = ["#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#76b7b2", "#edc948", "#9c755f"]


def thinned(points, most=240):
    """At most `most` of the points, first and last among them."""
    if len(points) <= most:
        return points
    return [points[i * (len(points) - 1) // (most - 1)] for i in range(most)]


def svg(points):
    """points: [(step, {domain: share})], rising in step."""
    points = thinned(points)
    domains = sorted(points[0][1])
    first, last = points[0][0], max(points[-1][0], points[0][0] + 1)
    plot_w, plot_h = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(step):
        return LEFT + plot_w * (step - first) / (last - first)

    def y(share):
        return TOP + plot_h * (1 - share)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
           'font-family="sans-serif" font-size="12" fill="#777">']
    below = [0.0] * len(points)
    for i, domain in enumerate(domains):
        above = [b + p[1][domain] for b, p in zip(below, points)]
        line = [f"{x(p[0]):.1f},{y(a):.1f}" for p, a in zip(points, above)]
        back = [f"{x(p[0]):.1f},{y(b):.1f}" for p, b in zip(points, below)]
        out.append(f'<polygon points="{" ".join(line + back[::-1])}" '
                   f'fill="{COLOURS[i % len(COLOURS)]}"><title>{domain}</title></polygon>')
        out.append(f'<text x="{WIDTH - RIGHT + 8}" y="{y((below[-1] + above[-1]) / 2) + 4:.1f}" '
                   f'fill="{COLOURS[i % len(COLOURS)]}">{domain} '
                   f'{100 * points[-1][1][domain]:.0f} %</text>')
        below = above
    for share in (0, 0.25, 0.5, 0.75, 1):
        out.append(f'<text x="{LEFT - 6}" y="{y(share) + 4:.1f}" text-anchor="end">'
                   f'{100 * share:.0f} %</text>')
    for k in range(5):
        step = first + (last - first) * k // 4
        out.append(f'<text x="{x(step):.1f}" y="{HEIGHT - 12}" text-anchor="middle">'
                   f'{"step " if k == 0 else ""}{step}</text>')
    out.append("</svg>")
    return "\n".join(out) + "\n"


def draw(records, path):
    """False if there are too few records for a picture."""
    points = [(r["step"], table.shares(r)) for r in table.of_kind(records, "train")]
    if len(points) < 2:
        return False
    with open(path, "w", encoding="utf-8") as f:
        f.write(svg(points))
    return True


if __name__ == "__main__":
    if not draw(table.read_log(sys.argv[1]), sys.argv[2]):
        sys.exit("picture.py: too few steps for a picture")
