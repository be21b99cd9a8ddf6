/// A straight piece of a vessel or airway.
struct Branch {
    var p, q: Position
    var radius, endRadius: Float
}

extension Anatomy {
    /// Joins `points` to a tree that enters at `start`: each branch runs part of the way to the middle of what it supplies, then divides
    /// that across its widest extent. Radii follow the number of leaves to the power `exponent` (Murray's law gives 1/3).
    mutating func grow(from start: Position, heading: Position, points: [Position], radius: Float, exponent: Float, into branches: inout [Branch]) {
        guard !points.isEmpty else { return }
        let total = Float(points.count)
        struct Task { var start, heading: Position; var points: ArraySlice<Position> }
        var tasks = [Task(start: start, heading: heading.unit, points: points[...])]
        func width(_ n: Int) -> Float { radius * power(Float(n) / total, exponent) }
        while let task = tasks.popLast() {
            let n = task.points.count
            let middle = task.points.reduce(Position.zero, +) / Float(n)
            let isLeaf = n == 1
            var end = isLeaf ? middle : task.start + (middle - task.start) * random.between(0.34, 0.46)
            if !isLeaf { end += random.jitter() * 0.06 * (end - task.start).length }
            let length = (end - task.start).length
            // Leave in the parent's direction and bend: vessels have no corners.
            let pieces = n > 40 ? 4 : n > 4 ? 3 : 2
            var last = task.start
            let control = task.start + task.heading * (0.38 * length)
            for k in 1...pieces {
                let t = Float(k) / Float(pieces)
                let next = (1 - t) * (1 - t) * task.start + 2 * t * (1 - t) * control + t * t * end
                let w = width(n)
                branches.append(Branch(p: last, q: next, radius: w * (1 - 0.12 * (t - 1 / Float(pieces))), endRadius: w * (1 - 0.12 * t)))
                last = next
            }
            guard !isLeaf else { continue }
            let direction = (end - control).unit
            // Widest direction at right angles to the branch: power iteration on the covariance.
            var axis = (random.jitter() - direction * 0.1).unit
            for _ in 0..<5 {
                var sum = Position.zero
                for p in task.points {
                    let d = p - middle
                    let e = d - direction * (0.7 * d.dot(direction))
                    sum += e * e.dot(axis)
                }
                axis = sum.unit
            }
            // Unequal halves, as in nature.
            let sorted = task.points.sorted { ($0 - middle).dot(axis) < ($1 - middle).dot(axis) }
            let cut = max(1, min(n - 1, Int(Float(n) * random.between(0.36, 0.64))))
            tasks.append(Task(start: end, heading: direction, points: sorted[..<cut]))
            tasks.append(Task(start: end, heading: direction, points: ArraySlice(Array(sorted[cut...]))))
        }
    }
}
