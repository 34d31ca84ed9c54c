"""When does somebody come, to whom, and into which room? Appointments: for visits of the plan, and outside it."""
